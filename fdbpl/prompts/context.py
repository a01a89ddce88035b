"""The learned context of CoOp (Zhou et al., IJCV 2022; `trainers/coop.py` of KaiyangZhou/CoOp)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fdbpl.backbones.openai import tokenize
from fdbpl.errors import UserError
from fdbpl.templates import readable_name

POSITIONS = ("end", "middle", "front")
MAX_CTX = 73  # context vectors: SOS, class name, full stop and EOT take at least four of the 77 positions


class Prompts(NamedTuple):
    """Prompts of C classes as token embeddings, truncated after the last EOT.

    Attributes:
        embeddings: float [C, L, d], or [G, C, L, d] for G groups whose contexts differ (prompt sets, images).
        eot: int64 [C], or [G, C] for groups: position of each class's end of text, < L.
        shared: number of leading positions that hold the same tensor for all classes of a group.
        deep: block number -> vectors that replace positions 1 ... n at that block's input, [n, d] for all classes or
            [C, n, d] for each class.
        host_eot: `eot` on the CPU, which gives the number of positions without waiting for a GPU; None = unknown.
    """

    embeddings: Tensor
    eot: Tensor
    shared: int
    deep: dict[int, Tensor] = {}  # noqa: RUF012 (never written to)
    host_eot: Tensor | None = None

    def select(self, index: Tensor) -> "Prompts":
        """Select the classes `index`, int64 [K]; `host_eot` is kept if the index is on the CPU."""
        host_eot = self.host_eot[index] if self.host_eot is not None and index.device.type == "cpu" else None
        index = index.to(self.eot.device, non_blocking=True)
        deep = {block: value[index] if value.dim() == 3 else value for block, value in self.deep.items()}
        return Prompts(self.embeddings.index_select(-3, index), self.eot[index], self.shared, deep, host_eot)

    @property
    def classes(self) -> int:
        """Number of classes C."""
        return self.embeddings.shape[-3]

    def split(self, count: int) -> "list[Prompts]":
        """Split into views of at most `count` classes."""
        embeddings, eot = self.embeddings.split(count, dim=-3), self.eot.split(count, dim=-1)
        host_eot = None if self.host_eot is None else self.host_eot.split(count, dim=-1)
        split = {block: value.split(count) for block, value in self.deep.items() if value.dim() == 3}
        deep = [self.deep | {block: value[i] for block, value in split.items()} for i in range(len(eot))]
        return [
            Prompts(embeddings[i], eot[i], self.shared, deep[i], None if host_eot is None else host_eot[i])
            for i in range(len(eot))
        ]

    def split_groups(self, count: int) -> "list[Prompts]":
        """Split into views of at most `count` groups."""
        parts = self.embeddings.split(count)
        if self.eot.dim() == 1:
            return [self._replace(embeddings=part) for part in parts]
        eot = self.eot.split(count)
        host_eot = [None] * len(parts) if self.host_eot is None else self.host_eot.split(count)
        return [Prompts(part, eot[i], self.shared, self.deep, host_eot[i]) for i, part in enumerate(parts)]


class PromptLearner(nn.Module):
    """Trainable context vectors before, around or after the frozen tokens of the class names.

    State dict, with the names of the official trainers:
        ctx: float32 [M, d], or [C, M, d] when class-specific (`csc`); trained in float32 for any precision of CLIP.
        token_prefix: [C, 1, d], embedding of SOS.
        token_suffix: [C, L - 1 - M, d], embeddings of class name, full stop and EOT. Official files hold 76 - M
            positions; those after the last EOT cannot affect the class feature (see `fdbpl.prompts.text`).

    Args:
        clip_model: OpenAI's CLIP; only its token embedding is read, at construction.
        classnames: C names; underscores become spaces.
        n_ctx: number M of context vectors; the number of words in `ctx_init` overrides it, as in CoOp.
        ctx_init: words that initialise the context ("a photo of a"), or "" for samples of N(0, 0.02^2).
        csc: one context per class; with words in `ctx_init` the context is shared nevertheless, as in CoOp.
        class_token_position: position of the name, "end" | "middle" | "front"; "middle" puts floor(M / 2) vectors
            before it.
        ending: text after the class name.
        exact_n_ctx: train exactly `n_ctx` vectors (MaPLe, IVLP, PromptSRC): they start from the first `n_ctx` words,
            and further words stay fixed; with fewer words they start from random values.

    Raises:
        UserError: unknown position, no context vector, no class, or a prompt of more than 77 tokens.
    """

    def __init__(
        self,
        clip_model: nn.Module,
        classnames: list[str],
        n_ctx: int = 16,
        ctx_init: str = "",
        csc: bool = False,
        class_token_position: str = "end",
        exact_n_ctx: bool = False,
        ending: str = ".",
    ):
        super().__init__()
        if class_token_position not in POSITIONS:
            raise UserError(
                f"Unknown class token position {class_token_position!r}: choose one of {', '.join(POSITIONS)}."
            )
        if not classnames:
            raise UserError("There are no class names to build prompts for. Check the data set.")
        words = " ".join(ctx_init.replace("_", " ").split())
        if exact_n_ctx:
            words = words if n_ctx <= len(words.split()) else ""
        elif words:
            n_ctx = len(words.split())
        if n_ctx < 1:
            raise UserError(f"N_CTX is {n_ctx}, but at least one context vector is needed. Set it to 1 or more.")
        if n_ctx > MAX_CTX:
            raise UserError(
                f"N_CTX is {n_ctx}, but CLIP's 77 tokens leave room for {MAX_CTX} context vectors (CoOp uses 16)."
            )
        names = [readable_name(name) for name in classnames]
        lead = words or " ".join(["X"] * n_ctx)
        tokens = tokenize([f"{lead} {name}{ending}" for name in names])
        eot = tokens.argmax(dim=-1)
        name_lengths = (tokenize(names).argmax(dim=-1) - 1).tolist()
        length = int(eot.max()) + 1

        embedding = clip_model.token_embedding
        device, width = embedding.weight.device, embedding.weight.shape[1]
        with torch.no_grad():
            embedded = embedding(tokens[:, :length].to(device)).to(clip_model.dtype)
            if words:
                # as many tokens as there are words, even if a word has several tokens, as in CoOp
                start = embedded[0, 1 : 1 + n_ctx].float().clone()
            else:
                start = torch.empty(*([len(names)] if csc else []), n_ctx, width)
                nn.init.normal_(start, std=0.02)  # on the CPU: independent of the device
                start = start.to(device)
        self.ctx = nn.Parameter(start)
        self.register_buffer("token_prefix", embedded[:, :1].clone())
        self.register_buffer("token_suffix", embedded[:, 1 + n_ctx :].clone())

        source = _sources(class_token_position, n_ctx, name_lengths, length)
        self.register_buffer("eot", eot.to(device), persistent=False)
        self._host_eot = eot
        self.register_buffer("source", source.to(device), persistent=False)
        self.classnames = list(classnames)
        self.n_ctx = n_ctx
        self.class_token_position = class_token_position
        self.shared = _shared(source, tokens, eot, n_ctx, self.ctx.dim() == 3)

    @property
    def class_specific(self) -> bool:
        """True if each class has its own context."""
        return self.ctx.dim() == 3

    def forward(self, ctx: Tensor | None = None) -> Prompts:
        """Build the prompts of all classes.

        Args:
            ctx: context to use instead of the trained one, [M, d], [C, M, d], or [G, 1, M, d] for G groups of prompts.
        """
        ctx = (self.ctx if ctx is None else ctx).to(self.token_suffix.dtype)
        whole = (*ctx.shape[:-3], len(self.classnames), -1, -1)
        pieces = [part.expand(whole) for part in (self.token_prefix, ctx, self.token_suffix)]
        embeddings = torch.cat(pieces, dim=-2)
        if self.class_token_position != "end":
            embeddings = embeddings.gather(-2, self.source[..., None].expand_as(embeddings))
        return Prompts(embeddings, self.eot, self.shared, host_eot=self._host_eot)


def _sources(position: str, n_ctx: int, name_lengths: list[int], length: int) -> Tensor:
    """Return the index into (SOS, context 1..M, name, full stop, EOT) for each position of each class: int64 [C, L]."""
    rows = []
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    for name_length in name_lengths:
        context = list(range(1, 1 + n_ctx))
        name = list(range(1 + n_ctx, 1 + n_ctx + name_length))
        rest = list(range(1 + n_ctx + name_length, length))
        rows.append([0, *context[:before], *name, *context[before:], *rest])
    return torch.tensor(rows, dtype=torch.long)


def _shared(source: Tensor, tokens: Tensor, eot: Tensor, n_ctx: int, class_specific: bool) -> int:
    """Return the number of leading positions with the same frozen token or trained vector for every class.

    Class-specific vectors are different parameters even if their values agree, so they are not shared. Neither is the
    earliest EOT: every class needs its own last hidden state.
    """
    trained = (source >= 1) & (source <= n_ctx)
    identity = torch.where(trained, -source, tokens.gather(1, source))
    same = (identity == identity[:1]).all(dim=0)
    if class_specific:
        same &= ~trained.any(dim=0)
    leading = int(same.long().cumprod(dim=0).sum())
    return min(leading, int(eot.min()))
