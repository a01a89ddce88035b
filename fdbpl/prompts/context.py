"""The learnt context of CoOp (Zhou et al., IJCV 2022; `trainers/coop.py` of KaiyangZhou/CoOp)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fdbpl.errors import UserError
from fdbpl.templates import readable_name

POSITIONS = ("end", "middle", "front")
MAX_CTX = 73  # context vectors: of 77 positions SOS, a name, its full stop and EOT need four


class Prompts(NamedTuple):
    """Prompts of C classes as token embeddings, cut behind the last EOT of them.

    Attributes:
        embeddings: float [C, L, d], or [G, C, L, d] for G groups whose context differs (prompt spaces, images).
        eot: int64 [C], or [G, C] by group: position of each class's end of text, < L.
        shared: number of leading positions that are the same tensor for all classes of a group; 0 or 1 where
            nothing worth sharing leads.
        deep: block number -> vectors that stand at positions 1 ... n at that block's input, [n, d] for all classes or
            [C, n, d] for each.
        host_eot: `eot` on the CPU, so that the number of positions is known without waiting for a GPU; None = unknown.
    """

    embeddings: Tensor
    eot: Tensor
    shared: int
    deep: dict[int, Tensor] = {}  # noqa: RUF012 (never written to)
    host_eot: Tensor | None = None

    def select(self, index: Tensor) -> "Prompts":
        """The prompts of the classes `index`, int64 [K]; `host_eot` is kept for an index on the CPU."""
        host_eot = self.host_eot[index] if self.host_eot is not None and index.device.type == "cpu" else None
        index = index.to(self.eot.device, non_blocking=True)
        deep = {block: value[index] if value.dim() == 3 else value for block, value in self.deep.items()}
        return Prompts(self.embeddings.index_select(-3, index), self.eot[index], self.shared, deep, host_eot)

    @property
    def classes(self) -> int:
        """C."""
        return self.embeddings.shape[-3]

    def split(self, count: int) -> "list[Prompts]":
        """The prompts of `count` classes at a time: views."""
        embeddings, eot = self.embeddings.split(count, dim=-3), self.eot.split(count, dim=-1)
        host_eot = None if self.host_eot is None else self.host_eot.split(count, dim=-1)
        split = {block: value.split(count) for block, value in self.deep.items() if value.dim() == 3}
        deep = [self.deep | {block: value[i] for block, value in split.items()} for i in range(len(eot))]
        return [
            Prompts(embeddings[i], eot[i], self.shared, deep[i], None if host_eot is None else host_eot[i])
            for i in range(len(eot))
        ]

    def split_groups(self, count: int) -> "list[Prompts]":
        """The prompts of `count` groups at a time: views."""
        parts = self.embeddings.split(count)
        if self.eot.dim() == 1:
            return [self._replace(embeddings=part) for part in parts]
        eot = self.eot.split(count)
        host_eot = [None] * len(parts) if self.host_eot is None else self.host_eot.split(count)
        return [Prompts(part, eot[i], self.shared, self.deep, host_eot[i]) for i, part in enumerate(parts)]


class PromptLearner(nn.Module):
    """Context vectors, the only thing learnt, in front of, around or behind frozen class-name tokens.

    State dict, with the names of the official trainers:
        ctx: float32 [M, d], or [C, M, d] when class-specific (`csc`); trained in float32 whatever CLIP's precision.
        token_prefix: [C, 1, d], embedding of SOS.
        token_suffix: [C, L - 1 - M, d], embeddings of class name, full stop and EOT. Official files hold 76 - M
            positions; those behind the last EOT cannot reach the class feature (see `fdbpl.prompts.text`).

    Args:
        clip_model: OpenAI's CLIP; only its token embedding is read, at construction.
        classnames: C names; `_` is read as a space.
        n_ctx: number M of context vectors. Words in `ctx_init` override it with their number, as in CoOp.
        ctx_init: words to start from ("a photo of a"), or "" for N(0, 0.02^2) draws.
        csc: one context per class. Words start a shared context whatever `csc` says, as in CoOp.
        class_token_position: where the name stands, "end" | "middle" | "front"; "middle" puts floor(M / 2) vectors
            in front of it.
        ending: text behind the class name.
        exact_n_ctx: learn `n_ctx` vectors whatever the words: the first `n_ctx` words, the others stay fixed; random
            vectors where there are fewer words (MaPLe, IVLP, PromptSRC).

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
                f"expected a class token position of {', '.join(POSITIONS)}, found {class_token_position!r}; "
                "choose one of these"
            )
        if not classnames:
            raise UserError("expected class names to write prompts for, found none; check the data set")
        words = " ".join(ctx_init.replace("_", " ").split())
        if exact_n_ctx:
            words = words if n_ctx <= len(words.split()) else ""
        elif words:
            n_ctx = len(words.split())
        if n_ctx < 1:
            raise UserError(f"expected at least one context vector, found N_CTX {n_ctx}; give 1 or more")
        if n_ctx > MAX_CTX:
            raise UserError(
                f"N_CTX is {n_ctx}, but CLIP's 77 tokens leave room for {MAX_CTX} context vectors (CoOp uses 16)."
            )
        names = [readable_name(name) for name in classnames]
        lead = words or " ".join(["X"] * n_ctx)
        tokens = _tokenize([f"{lead} {name}{ending}" for name in names])
        eot = tokens.argmax(dim=-1)
        name_lengths = (_tokenize(names).argmax(dim=-1) - 1).tolist()
        length = int(eot.max()) + 1

        embedding = clip_model.token_embedding
        device, width = embedding.weight.device, embedding.weight.shape[1]
        with torch.no_grad():
            embedded = embedding(tokens[:, :length].to(device)).to(clip_model.dtype)
            if words:
                # the words' own tokens; a word of several tokens contributes as many as there are words, as in CoOp
                start = embedded[0, 1 : 1 + n_ctx].float().clone()
            else:
                start = torch.empty(*([len(names)] if csc else []), n_ctx, width)
                nn.init.normal_(start, std=0.02)  # on the CPU: the same numbers for a seed on every device
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
        """Whether each class has its own context."""
        return self.ctx.dim() == 3

    def forward(self, ctx: Tensor | None = None) -> Prompts:
        """The prompts of all classes.

        Args:
            ctx: context to use instead of the learnt one, [M, d], [C, M, d], or [G, 1, M, d] for G groups of prompts.
        """
        ctx = (self.ctx if ctx is None else ctx).to(self.token_suffix.dtype)
        whole = (*ctx.shape[:-3], len(self.classnames), -1, -1)
        pieces = [part.expand(whole) for part in (self.token_prefix, ctx, self.token_suffix)]
        embeddings = torch.cat(pieces, dim=-2)
        if self.class_token_position != "end":
            embeddings = embeddings.gather(-2, self.source[..., None].expand_as(embeddings))
        return Prompts(embeddings, self.eot, self.shared, host_eot=self._host_eot)


def _sources(position: str, n_ctx: int, name_lengths: list[int], length: int) -> Tensor:
    """int64 [C, L]: which of (SOS, context 1..M, name, full stop, EOT) stands at each position of each class."""
    rows = []
    before = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
    for name_length in name_lengths:
        context = list(range(1, 1 + n_ctx))
        name = list(range(1 + n_ctx, 1 + n_ctx + name_length))
        rest = list(range(1 + n_ctx + name_length, length))
        rows.append([0, *context[:before], *name, *context[before:], *rest])
    return torch.tensor(rows, dtype=torch.long)


def _shared(source: Tensor, tokens: Tensor, eot: Tensor, n_ctx: int, class_specific: bool) -> int:
    """Leading positions that hold the same frozen token or the same learnt vector for every class.

    Class-specific vectors are different parameters even while their values agree, so they end what is shared. The
    earliest EOT stays outside: every class needs its own last hidden state.
    """
    learnt = (source >= 1) & (source <= n_ctx)
    identity = torch.where(learnt, -source, tokens.gather(1, source))
    same = (identity == identity[:1]).all(dim=0)
    if class_specific:
        same &= ~learnt.any(dim=0)
    leading = int(same.long().cumprod(dim=0).sum())
    return min(leading, int(eot.min()))


def _tokenize(texts: list[str]) -> Tensor:
    from fdbpl.backbones.openai import tokenize

    return tokenize(texts)
