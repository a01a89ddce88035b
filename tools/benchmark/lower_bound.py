"""Lower bound of the time of an exact step: text encoding only."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fdbpl.backbones import Backbone

CONTENT = (
    "one forward and one backward pass of all classes in both prompt spaces through the frozen text encoder, only for "
    "the positions after the shared prefix (class name, full stop, EOT)"
)


class TextLowerBound:
    """Text encoding of suffixes: linear layers on all positions at once, attention on groups of equal length.

    Args:
        suffix: embeddings of the suffixes of all classes and spaces, positions added, [N, S, d].
        eot: int64 [N], position of EOT in each suffix, < S; later positions are ignored.
    """

    def __init__(self, backbone: Backbone, suffix: Tensor, eot: Tensor):
        self.model, self.models = backbone.model, [backbone]
        lengths, order = (eot + 1).sort(stable=True)
        self.back = order.argsort()
        self.groups = [(int(length), int((lengths == length).sum())) for length in lengths.unique()]
        parts = [suffix[index, : int(eot[index]) + 1] for index in order.tolist()]
        self.own = torch.cat(parts).detach().requires_grad_()  # [T, d]
        self.ends = lengths.cumsum(0) - 1

    def prepare(self) -> None:
        """Do nothing; `step` does all work."""

    def step(self) -> Tensor:
        features = self.features()
        features.backward(torch.ones_like(features))
        self.own.grad = None
        return features.detach().sum()

    def features(self) -> Tensor:
        """Return the features [N, D] of the suffixes, without their prefix."""
        hidden = self.own
        *blocks, last = self.model.transformer.resblocks
        for block in blocks:
            attention = block.attn
            packed = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
            seen = [self._attended(*part.chunk(3, dim=-1)) for part in self._grouped(attention, packed)]
            hidden = hidden + attention.out_proj(torch.cat(seen))
            hidden = hidden + block.mlp(block.ln_2(hidden))
        attention, normed, width = last.attn, last.ln_1(hidden), hidden.shape[-1]
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        query = F.linear(normed[self.ends], weight[:width], bias[:width])
        query = query.split([count for _, count in self.groups])
        pairs = self._grouped(attention, F.linear(normed, weight[width:], bias[width:]))
        seen = [
            self._attended(one.view(len(one), 1, attention.num_heads, -1).transpose(1, 2), *pair.chunk(2, dim=-1))
            for one, pair in zip(query, pairs, strict=True)
        ]
        hidden = hidden[self.ends] + attention.out_proj(torch.cat(seen))
        hidden = hidden + last.mlp(last.ln_2(hidden))
        return (self.model.ln_final(hidden).to(self.own.dtype) @ self.model.text_projection)[self.back]

    def _grouped(self, attention, packed: Tensor) -> list[Tensor]:
        """Split [T, k d] into [n, heads, l, k d / heads] for each length l with n suffixes."""
        parts = packed.split([length * count for length, count in self.groups])
        return [
            part.view(count, length, -1, attention.num_heads, attention.head_dim)
            .transpose(2, 3)
            .flatten(-2)
            .transpose(1, 2)
            for part, (length, count) in zip(parts, self.groups, strict=True)
        ]

    @staticmethod
    def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return causal attention of [n, heads, l, e] as [rows, d]; a single query is that of the last position."""
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=query.shape[-2] > 1)
        return seen.transpose(1, 2).flatten(0, 1).flatten(1)
