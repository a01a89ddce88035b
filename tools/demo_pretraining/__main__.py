"""`python -m tools.demo_pretraining {rn-student,teacher,vit-student}`: pre-train the demo's CLIP models from scratch.

The loss is InfoNCE on captioned scenes, without negatives whose caption also describes the scene. Linear heads that
predict form, colour, medium, fill and background from the embedding add supervised losses, whose weight falls to zero;
the heads are discarded afterwards. `no X` captions have a separate loss. Schedules are in steps, and all random choices
are functions of (seed, step), so an interrupted run on one machine resumes to the same weights.
"""

import io
import math
import os
import time
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdbpl.backbones.backbone import CLIP_MEAN, CLIP_STD
from fdbpl.backbones.openai import encode_tokens
from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import BACKGROUNDS, COLOURS, FILLS, MEDIA, NOTHING, Facts, draw_pool
from fdbpl.errors import cli_error_handler
from fdbpl.io.atomic import write_bytes
from tools.demo_pretraining.acceptance import report
from tools.demo_pretraining.captions import NOT_NAME, caption, consistent, no_caption
from tools.demo_pretraining.schedules import STUDENT_PHASES, TEACHER_PHASES, VIT_PHASE, Phase
from tools.demo_pretraining.small_models import EMBEDDING, SIDE, WEIGHTS, build, load_small, save_small
from tools.demo_pretraining.vocabulary import SmallTokenizer, token_ids

MEDIA_SHARES = [0.62, 0.12, 0.10, 0.16]
HEAD_SIZES = [2 * len(NAMES) + 1, len(COLOURS), len(MEDIA), len(FILLS), len(BACKGROUNDS)]


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.demo_pretraining", description=__doc__)
    parser.add_argument("which", choices=["rn-student", "teacher", "vit-student"])
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder of the weights")
    parser.add_argument("--scratch", type=Path, default=Path("output/pretrain_demo"), help="folder of checkpoints")
    parser.add_argument("--steps", type=float, default=1.0, help="factor for steps and scenes, for tests")
    arguments = parser.parse_args()
    with cli_error_handler():
        scale = arguments.steps
        run = Run(arguments.which, arguments.output, arguments.scratch)
        if arguments.which == "vit-student":
            run.distil(_scaled(VIT_PHASE, scale))
        else:
            phases = STUDENT_PHASES if arguments.which == "rn-student" else TEACHER_PHASES
            for number, phase in enumerate(phases):
                run.contrast(_scaled(phase, scale), number)
        run.save()


def _scaled(phase: Phase, factor: float) -> Phase:
    steps, pool = (max(least, round(whole * factor)) for whole, least in ((phase.steps, 1), (phase.pool, phase.batch)))
    return replace(phase, steps=steps, pool=min(pool, phase.pool))


class Run:
    """Pre-training of one model from random weights."""

    def __init__(self, which: str, output: Path, scratch: Path):
        self.which, self.output, self.scratch = which, output, scratch
        self.checkpoints: list[Path] = []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ids = token_ids()
        self.tokenize = SmallTokenizer(self.ids)
        torch.manual_seed(0)
        self.model = build(which, len(self.ids)).to(self.device)
        self.heads = nn.ModuleList([nn.Linear(EMBEDDING, sum(HEAD_SIZES)), nn.Linear(EMBEDDING, HEAD_SIZES[0])])
        self.heads.to(self.device)

    # training --------------------------------------------------------------------------------------

    def contrast(self, phase: Phase, number: int) -> None:
        """Train with masked InfoNCE and the auxiliary heads."""
        images, facts = self._pool(phase)
        self.model.visual.to(memory_format=torch.channels_last)
        noise = self.model.token_embedding.register_forward_hook(_noise(phase.noise))

        def loss_of(step: int) -> Tensor:
            rng = np.random.default_rng([phase.seed, 1, step])
            rows, pixels = self._batch(images, phase, step, rng)
            return self._contrastive_loss(facts[rows], pixels, phase, step, rng)

        self._optimise(phase, loss_of, f"{self.which} phase {number + 1}", [self.model, self.heads])
        noise.remove()

    def distil(self, phase: Phase) -> None:
        """Distil the ResNet student's image embeddings into the ViT, which keeps the ResNet's text encoder."""
        teacher, _ = load_small("rn-student", self.output)
        self.model.load_state_dict(
            {key: value for key, value in teacher.state_dict().items() if not key.startswith("visual.")}, strict=False
        )
        teacher = teacher.visual.to(self.device).eval().requires_grad_(False)
        images, facts = self._pool(phase)
        learning = nn.ModuleList([self.model.visual, self.heads[0]])

        def loss_of(step: int) -> Tensor:
            rows, pixels = self._batch(images, phase, step, np.random.default_rng([phase.seed, 1, step]))
            with self._autocast():
                with torch.no_grad():
                    target = teacher(pixels)
                found = self.model.visual(pixels)
            found, target = found.float(), F.normalize(target.float(), dim=-1)
            form = F.cross_entropy(self.heads[0](found)[:, : HEAD_SIZES[0]], self._labels(facts[rows])[0])
            found = F.normalize(found, dim=-1)
            distance = (1 - (found * target).sum(-1)).mean()
            match = F.cross_entropy(20 * found @ target.T, torch.arange(len(rows), device=self.device))
            return 2 * distance + 0.5 * match + 0.5 * form

        self._optimise(phase, loss_of, self.which, [learning])

    def save(self) -> None:
        """Write the weights."""
        file = save_small(self.model, self.ids, self.which, self.output)
        for checkpoint in self.checkpoints:  # so that the next run starts anew
            checkpoint.unlink(missing_ok=True)
        print(f"{file}: {file.stat().st_size / 1e6:.2f} MB")

    # parts -----------------------------------------------------------------------------------------------------

    def _contrastive_loss(self, facts: np.ndarray, pixels: Tensor, phase: Phase, step: int, rng) -> Tensor:
        scenes = [Facts(*(int(value) for value in row)) for row in facts]
        captions = [caption(rng, scene, facts[:, 0], phase.style) for scene in scenes]
        claims = np.stack([claim for _, claim in captions])
        texts, which = np.unique([text for text, _ in captions], return_inverse=True)
        with self._autocast():
            image = self.model.visual(pixels)
            text = encode_tokens(self.model, self.tokenize(list(texts)).to(self.device))
        image, text = image.float(), text.float()[torch.from_numpy(which).to(self.device)]
        labels = self._labels(facts)
        parts = self.heads[0](image).split(HEAD_SIZES, 1)
        help_image = F.cross_entropy(parts[0], labels[0])
        help_image = help_image + 0.2 * sum(F.cross_entropy(parts[k], labels[k]) for k in range(1, len(HEAD_SIZES)))
        positive = torch.from_numpy(claims[:, NOT_NAME] < 0).to(self.device)
        help_text = F.cross_entropy(self.heads[1](text)[positive], labels[0][positive])

        image, text = F.normalize(image, dim=-1), F.normalize(text, dim=-1)
        scale = self.model.logit_scale.exp()
        also_true = torch.from_numpy(consistent(facts, claims)).to(self.device).fill_diagonal_(False)
        logits = (scale * image @ text.T).masked_fill(also_true, -1e4)
        target = torch.arange(len(facts), device=self.device)
        contrast = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
        loss = contrast + (1 - step / phase.steps) * (help_image + 0.5 * help_text)
        if phase.no_weight:
            loss = loss + phase.no_weight * self._no_loss(facts, image, scale, rng)
        return loss

    def _no_loss(self, facts: np.ndarray, image: Tensor, scale: Tensor, rng, count: int = 10) -> Tensor:
        """Return a loss that aligns `no X` with scenes without X: softplus(s(X, no X) - mean s(other, no X) + 1)."""
        rows = [k for k in range(len(facts)) if facts[k, 0] != NOTHING][:count]
        tokens = self.tokenize([no_caption(rng, int(facts[k, 0])) for k in rows]).to(self.device)
        scores = scale * F.normalize(encode_tokens(self.model, tokens).float(), dim=-1) @ image.T
        same = torch.from_numpy(facts[rows][:, None, 0] == facts[None, :, 0]).to(self.device)
        own = scores[range(len(rows)), rows]
        others = scores.masked_fill(same, 0).sum(1) / (~same).sum(1)
        return F.softplus(own - others + 1).mean()

    def _pool(self, phase: Phase) -> tuple[np.ndarray, np.ndarray]:
        begin = time.perf_counter()
        pool = draw_pool(phase.pool, phase.seed, MEDIA_SHARES, phase.workshop_share)
        print(f"{phase.pool} scenes drawn in {time.perf_counter() - begin:.0f} s", flush=True)
        return pool

    def _batch(self, images: np.ndarray, phase: Phase, step: int, rng) -> tuple[np.ndarray, Tensor]:
        """Return rows of the pool and their normalised random crops of 64 pixels, half of them flipped."""
        per_epoch = len(images) // phase.batch
        order = np.random.default_rng([phase.seed, 0, step // per_epoch]).permutation(len(images))
        rows = order[(step % per_epoch) * phase.batch :][: phase.batch]
        tops, lefts = rng.integers(0, images.shape[1] - SIDE + 1, (2, phase.batch))
        flips = np.where(rng.random(phase.batch) < 0.5, -1, 1)
        crops = [
            images[row, top : top + SIDE, left : left + SIDE][:, ::flip]
            for row, top, left, flip in zip(rows, tops, lefts, flips, strict=True)
        ]
        return rows, normalised(np.stack(crops)).to(self.device)

    def _labels(self, facts: np.ndarray) -> list[Tensor]:
        form = np.where(facts[:, 0] == NOTHING, 2 * len(NAMES), 2 * facts[:, 0] + facts[:, 1])
        columns = [form, facts[:, 2], facts[:, 3], facts[:, 4], facts[:, 5]]
        return [torch.from_numpy(column.astype(np.int64)).to(self.device) for column in columns]

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _optimise(self, phase: Phase, loss_of, title: str, modules: list[nn.Module]) -> None:
        """Run AdamW with warm-up and cosine decay over `phase.steps`; resume from a checkpoint if there is one."""
        named = [pair for module in modules for pair in module.named_parameters()]
        matrices = [p for name, p in named if p.ndim >= 2 and "embedding" not in name]
        others = [p for name, p in named if not (p.ndim >= 2 and "embedding" not in name)]
        optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}],
            lr=phase.rate,
            betas=(0.9, 0.98),
        )
        checkpoint = self.scratch / f"{title.replace(' ', '-')}.pt"
        self.checkpoints.append(checkpoint)
        first = self._resume(checkpoint, optimiser)
        begin = time.perf_counter()
        self.model.train()
        for step in range(first, phase.steps):
            torch.manual_seed(phase.seed * 1_000_000 + step)
            rate = phase.rate * min(1, (step + 1) / phase.warmup)
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / phase.steps))
            for group in optimiser.param_groups:
                group["lr"] = rate
            loss = loss_of(step)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
            optimiser.step()
            with torch.no_grad():
                self.model.logit_scale.clamp_(0, math.log(100))
            if (step + 1) % 400 == 0 or step + 1 == phase.steps:
                elapsed = time.perf_counter() - begin
                left = elapsed / (step + 1 - first) * (phase.steps - step - 1)
                print(f"{title} step {step + 1}/{phase.steps} loss {loss.item():.3f} {elapsed:.0f} s eta {left:.0f} s")
                print(f"  {report(self.model, self.tokenize)}", flush=True)
                self.model.train()
                self._checkpoint(checkpoint, optimiser, step + 1)

    def _checkpoint(self, file: Path, optimiser, step: int) -> None:
        buffer = io.BytesIO()
        state = {"model": self.model.state_dict(), "heads": self.heads.state_dict(), "step": step}
        torch.save({**state, "optimiser": optimiser.state_dict()}, buffer)
        write_bytes(file, buffer.getvalue())

    def _resume(self, file: Path, optimiser) -> int:
        if not file.is_file():
            return 0
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        optimiser.load_state_dict(state["optimiser"])
        print(f"{file}: resuming at step {state['step']}")
        return state["step"]


def normalised(pixels: np.ndarray) -> Tensor:
    """Normalise uint8 [B, H, W, 3] to CLIP's input, float32 [B, 3, H, W]."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std


def _noise(deviation: float):
    def hook(module, inputs, output):
        return output + deviation * torch.randn_like(output) if deviation and module.training else output

    return hook


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
