"""Parts of OpenAI's residual attention block, as functions of the unmodified module."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def heads(block: nn.Module, hidden: Tensor) -> Tensor:
    """Split [N, S, d] into attention heads: [N, heads, S, e]."""
    return hidden.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)


def merge(block: nn.Module, attended: Tensor) -> Tensor:
    """Concatenate the heads' outputs and apply the output projection: [N, heads, S, e] -> [N, S, d]."""
    out = block.attn.out_proj
    return F.linear(attended.transpose(1, 2).flatten(-2), out.weight, out.bias)


def feed_forward(block: nn.Module, hidden: Tensor) -> Tensor:
    """Apply the block's MLP with its residual connection."""
    return hidden + block.mlp(layer_norm(block.ln_2, hidden))


def layer_norm(norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """Apply a layer norm in float32 (float64 stays float64), as OpenAI's LayerNorm does."""
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    normed = F.layer_norm(wide, norm.normalized_shape, norm.weight.to(wide.dtype), norm.bias.to(wide.dtype), norm.eps)
    return normed.to(hidden.dtype)
