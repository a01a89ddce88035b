"""Reference encoding of prompts: 77 tokens per class through CLIP's own transformer."""

import clip
import torch

from fdbpl.prompts import PromptLearner


def assemble(
    learner: PromptLearner, clip_model, classnames: list[str], ctx: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Assemble CoOp's prompts class by class: embeddings [C, 77, d] and EOT positions [C]."""
    ctx, m = learner.ctx if ctx is None else ctx, learner.n_ctx
    rows, ends = [], []
    for number, name in enumerate(classnames):
        own = (ctx[number] if ctx.dim() == 3 else ctx).to(clip_model.dtype)
        tokens = clip.tokenize(" ".join(["X"] * m) + f" {name.replace('_', ' ')}.")[0]
        embedded = clip_model.token_embedding(tokens).to(clip_model.dtype)
        length = len(clip.clip._tokenizer.encode(name.replace("_", " ")))
        sos, cls, rest = embedded[:1], embedded[1 + m : 1 + m + length], embedded[1 + m + length :]
        before = {"end": m, "middle": m // 2, "front": 0}[learner.class_token_position]
        rows.append(torch.cat([sos, own[:before], cls, own[before:], rest]))
        ends.append(int(tokens.argmax()))
    return torch.stack(rows), torch.tensor(ends)


def encode(
    clip_model, embeddings: torch.Tensor, ends: torch.Tensor, deep: dict[int, torch.Tensor] | None = None
) -> torch.Tensor:
    """Apply OpenAI's blocks to all positions; `deep` replaces positions 1 ... n at the input of some blocks."""
    hidden = embeddings + clip_model.positional_embedding.to(embeddings.dtype)
    for number, block in enumerate(clip_model.transformer.resblocks):
        if deep and number in deep:
            vectors = deep[number].expand(len(hidden), -1, -1)
            hidden = torch.cat([hidden[:, :1], vectors, hidden[:, 1 + vectors.shape[1] :]], dim=1)
        hidden = block(hidden.transpose(0, 1)).transpose(0, 1)
    return (clip_model.ln_final(hidden)[torch.arange(len(ends)), ends] @ clip_model.text_projection).float()
