"""Region banks: bytes of a region, what float16 changes, how fast they are made and read."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import torch

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.losses import entropy_weight
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.generation import generate
from fdbpl.regions.metadata import BankMetadata
from tools import measure_generation
from tools import measure_lookup as bank_lookup
from tools.benchmark.profiles import BankBytes, Generation, Lookup, Rounding
from tools.benchmark.synthetic_inputs import FOLDER, World


def measure_bank_bytes(world: World, point: BankBytes) -> dict:
    """Bytes of a region: shards and manifest of a bank of each kind, over its regions."""
    teacher = load_backbone("random:tiny teacher")
    texts = [f"a photo of a {name}." for name in world.names[: point.classes]]
    images = world.paths[: point.images]
    result: dict = {"embedding_width": teacher.embed_dim, "regions": point.regions * len(images), "bytes": {}}
    for content in ("embedding", "topk:10"):
        with tempfile.TemporaryDirectory(dir=world.folder) as folder:
            identity = _identity(teacher, content, texts)
            generate(world.root, images, folder, identity, lambda: teacher, point.regions, prompts=texts)
            files = [*Path(folder).glob("regions-*.safetensors"), Path(folder, "manifest.json")]
            result["bytes"][content] = sum(file.stat().st_size for file in files) / result["regions"]
    return result


def _identity(teacher: Backbone, content: str, texts: list[str]) -> BankMetadata:
    from fdbpl.regions.metadata import digest

    return BankMetadata(
        dataset=FOLDER, teacher=teacher.name, teacher_sha256=teacher.sha256, logit_scale=teacher.logit_scale,
        size=teacher.image_size, mean=teacher.mean, std=teacher.std, scale=(0.08, 0.936), ratio=(3 / 4, 4 / 3),
        flip=0.5, seed=1, content=content, classes=digest(texts) if content != "embedding" else "",
    )  # fmt: skip


@torch.no_grad()
def measure_rounding(world: World, point: Rounding) -> dict:
    """What float16 embeddings change, with trained weights (the demo's teacher): largest absolute differences."""
    teacher = load_backbone("demo:teacher", world.device)
    paths = world.paths[: point.images]
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(paths), 1))
    requests = RegionRequests(paths, np.arange(len(paths)), whole, np.zeros(len(paths), bool))
    pipeline = build_pipeline("auto", world.root, teacher.image_size, len(paths), world.device)
    exact = teacher.encode_image(next(iter(pipeline(requests)))[1])
    stored = exact.half().float()
    texts = teacher.encode_text([f"a photo of a {name}." for name in world.names[: point.classes]])
    logits = [teacher.logit_scale * features @ texts.T for features in (exact, stored)]
    weights = [entropy_weight(values, 1e-6) for values in logits]
    return {
        "images": len(paths),
        "classes": len(texts),
        "logit_scale": teacher.logit_scale,
        "logits": float((logits[0] - logits[1]).abs().max()),
        "largest_logit": float(logits[0].abs().max()),
        "probability": float((logits[0].softmax(-1) - logits[1].softmax(-1)).abs().max()),
        "w": float((weights[0] - weights[1]).abs().max()),
        "same_first_class": float((logits[0].argmax(-1) == logits[1].argmax(-1)).float().mean()),
    }


def measure_lookup(world: World, point: Lookup) -> dict:
    """Milliseconds of a lookup in a bank of random numbers as large as ImageNet's, and resident memory meanwhile."""
    images = bank_lookup.image_names(point.images)
    with tempfile.TemporaryDirectory(dir=world.folder) as folder, contextlib.redirect_stderr(io.StringIO()):
        bank_lookup.make(Path(folder), images, point.per_image, point.width)
        return bank_lookup.measure(Path(folder), images, point.per_image, point.batch, point.lookups)


def measure_teacher_share(world: World, point: Generation) -> dict:
    """Regions per second of whole generations and of their teacher alone."""
    teacher = load_backbone(f"random:{point.labelling}", world.device)
    images = world.paths[: point.images]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        rates = measure_generation.measure(world.root, images, teacher, point.per_image, point.batch, point.rounds)
    return {"rates": rates, "share": measure_generation.share(rates)}
