"""What no exact step can undercut on this machine: the text work alone, stripped of everything else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fdbpl.backbones import Backbone

CONTENT = (
    "the positions behind the shared prefix (class name, full stop, EOT; cut at the longest) of C classes in both prompt "
    "spaces, once forward and once backward through the frozen text tower, of the last block only EOT's row; no prefix, no "
    "attention to it, no logits, no loss, no lookup, no optimiser, no image"
)


class TextLimit:
    """Args: suffix: embeddings [N, S, d] of the positions of all classes and spaces; eot: int64 [N], their ends, < S."""

    def __init__(self, backbone: Backbone, suffix: Tensor, eot: Tensor):
        self.model, self.suffix, self.eot = backbone.model, suffix.detach().clone().requires_grad_(), eot
        self.models = [backbone]

    def prepare(self) -> None:
        """Nothing: all of it is in the step."""

    def warm_up(self) -> None:
        self.step()

    def step(self) -> Tensor:
        features = self.features()
        features.backward(torch.ones_like(features))
        self.suffix.grad = None
        return features.detach().sum()

    def features(self) -> Tensor:
        """Features [N, D] of the suffixes taken for themselves."""
        hidden = self.suffix
        *blocks, last = self.model.transformer.resblocks
        for block in blocks:
            hidden = hidden + self._attention(block, hidden)
            hidden = hidden + block.mlp(block.ln_2(hidden))
        rows = torch.arange(len(hidden), device=hidden.device), self.eot
        hidden = hidden[rows][:, None] + self._last_attention(last, hidden, rows)
        hidden = hidden + last.mlp(last.ln_2(hidden))
        return self.model.ln_final(hidden[:, 0]).to(self.suffix.dtype) @ self.model.text_projection

    def _attention(self, block, hidden: Tensor) -> Tensor:
        attention = block.attn
        packed = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
        query, key, value = (
            part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in packed.chunk(3, dim=-1)
        )
        return self._merged(attention, F.scaled_dot_product_attention(query, key, value, is_causal=True))

    def _last_attention(self, block, hidden: Tensor, rows) -> Tensor:
        attention, normed, width = block.attn, block.ln_1(hidden), hidden.shape[-1]
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        query = F.linear(normed[rows][:, None], weight[:width], bias[:width])
        key, value = F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1)
        query, key, value = (
            part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in (query, key, value)
        )
        visible = torch.arange(key.shape[-2], device=key.device) <= self.eot[:, None, None, None]
        return self._merged(attention, F.scaled_dot_product_attention(query, key, value, attn_mask=visible))

    @staticmethod
    def _merged(attention, seen: Tensor) -> Tensor:
        return F.linear(seen.transpose(1, 2).flatten(-2), attention.out_proj.weight, attention.out_proj.bias)
