"""OpenAI's residual attention block, in the pieces that prompts need: unmodified weights, our own order of work."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def heads(block: nn.Module, hidden: Tensor) -> Tensor:
    return hidden.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)


def merge(block: nn.Module, seen: Tensor) -> Tensor:
    out = block.attn.out_proj
    return F.linear(seen.transpose(1, 2).flatten(-2), out.weight, out.bias)


def feed_forward(block: nn.Module, hidden: Tensor) -> Tensor:
    return hidden + block.mlp(layer_norm(block.ln_2, hidden))


def layer_norm(norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """In float32 whatever the precision around it, as OpenAI's LayerNorm; float64 stays float64."""
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    normed = F.layer_norm(wide, norm.normalized_shape, norm.weight.to(wide.dtype), norm.bias.to(wide.dtype), norm.eps)
    return normed.to(hidden.dtype)
