"""Exact text encoding of prompts with OpenAI's unmodified CLIP, on far fewer tokens than 77 per class.

CLIP's text tower is causal: position i sees positions <= i only. Three things follow, none of them an approximation:

* **Cut.** The class feature is read at EOT, so positions behind EOT cannot reach it. L = max(EOT) + 1 positions are
  encoded instead of 77.
* **Shared prefix.** The hidden states of the first P positions depend on nothing behind them. Where those positions
  hold the same vectors for all classes (`Prompts.shared`: SOS and the context with the class name at the end; SOS and
  the first half with the name in the middle; SOS and whatever tokens the names begin with in common at the front) they
  are encoded once, and each class's remaining positions attend to their keys and values. The gradient of the shared
  positions sums over classes through the expanded keys and values, as it would through C copies.
  With class-specific contexts only SOS is common, with nothing shared not even that: below two positions the prefix
  would cost more than it saves, so the cut alone is used. Contexts that depend on the image are shared inside a group
  (one group per image), not across groups.
* **One row in the last block.** Only EOT's row of the last block's output is read, so that block forms queries and
  its MLP for that row only; keys and values of all positions are still needed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdbpl.prompts.context import Prompts

LEAST_WORTH_SHARING = 2  # positions; one (SOS) costs more in extra calls than it saves


def encode_prompts(clip_model: nn.Module, prompts: Prompts) -> Tensor:
    """Text features of prompts, not normalised.

    Args:
        clip_model: OpenAI's CLIP (float32, float16 by `convert_weights`, or bfloat16) or autocast around it.
        prompts: C classes, [C, L, d], or G groups of them, [G, C, L, d].

    Returns:
        float32 [C, D] or [G, C, D]; differentiable in `prompts.embeddings`.
    """
    embeddings = prompts.embeddings
    groups = embeddings.shape[0] if embeddings.dim() == 4 else 1
    classes, length, width = embeddings.shape[-3:]
    dtype = clip_model.dtype
    hidden = embeddings.to(dtype) + clip_model.positional_embedding[:length].to(dtype)
    hidden = hidden.view(groups, classes, length, width)

    cut = prompts.shared if prompts.shared >= LEAST_WORTH_SHARING and classes > 1 else 0
    prefix = hidden[:, 0, :cut] if cut else None  # [G, P, d]
    suffix = hidden[:, :, cut:].reshape(groups * classes, length - cut, width)  # [G * C, S, d]
    reach = torch.arange(length, device=hidden.device)
    visible = reach <= reach[cut:, None]  # [S, P + S]
    *blocks, last = clip_model.transformer.resblocks
    for block in blocks:
        prefix, suffix = _through(block, prefix, suffix, visible)
    eot = prompts.eot.repeat(groups) if prompts.eot.dim() == 1 else prompts.eot.reshape(-1)
    hidden = _last_row(last, prefix, suffix, eot, cut)
    features = _layer_norm(clip_model.ln_final, hidden).to(dtype) @ clip_model.text_projection
    features = features.float()
    return features.view(groups, classes, -1) if embeddings.dim() == 4 else features


def encode_spaces(clip_model: nn.Module, *spaces: Prompts) -> list[Tensor]:
    """`encode_prompts` of several prompt spaces over the same classes; in one pass where their shapes agree.

    Returns:
        One float32 [C, D] per space.
    """
    first = spaces[0]
    alike = all(
        space.embeddings.shape == first.embeddings.shape and space.shared == first.shared for space in spaces[1:]
    )
    if len(spaces) == 1 or not alike:
        return [encode_prompts(clip_model, space) for space in spaces]
    stacked = Prompts(
        torch.stack([space.embeddings for space in spaces]), torch.stack([space.eot for space in spaces]), first.shared
    )
    return list(encode_prompts(clip_model, stacked))


def _through(block: nn.Module, prefix: Tensor | None, suffix: Tensor, visible: Tensor) -> tuple[Tensor | None, Tensor]:
    """One residual attention block over [G, P, d] shared and [G * C, S, d] own positions."""
    query, key, value = _project(block, suffix)
    if prefix is None:
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return None, _feed_forward(block, suffix + _merge(block, seen))
    own, prefix_key, prefix_value = _project(block, prefix)
    key, value = _join(prefix_key, key), _join(prefix_value, value)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    suffix = _feed_forward(block, suffix + _merge(block, seen))
    seen = F.scaled_dot_product_attention(own, prefix_key, prefix_value, is_causal=True)
    return _feed_forward(block, prefix + _merge(block, seen)), suffix


def _last_row(block: nn.Module, prefix: Tensor | None, suffix: Tensor, eot: Tensor, cut: int) -> Tensor:
    """The last block's output at EOT: [G * C, d]."""
    rows = suffix[torch.arange(len(suffix), device=suffix.device), eot - cut][:, None]  # [G * C, 1, d]
    normed = _layer_norm(block.ln_1, suffix)
    at_eot = normed[torch.arange(len(suffix), device=suffix.device), eot - cut][:, None]
    width = suffix.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    query = _heads(block, F.linear(at_eot, weight[:width], bias[:width]))
    key, value = (_heads(block, part) for part in F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1))
    if prefix is not None:
        pair = F.linear(_layer_norm(block.ln_1, prefix), weight[width:], bias[width:]).chunk(2, dim=-1)
        key, value = (_join(_heads(block, part), own) for part, own in zip(pair, (key, value), strict=True))
    visible = torch.arange(key.shape[-2], device=eot.device) <= eot[:, None, None, None]  # [G * C, 1, 1, P + S]
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    return _feed_forward(block, rows + _merge(block, seen))[:, 0]


def _project(block: nn.Module, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [N, heads, S, d / heads] of [N, S, d]."""
    packed = F.linear(_layer_norm(block.ln_1, hidden), block.attn.in_proj_weight, block.attn.in_proj_bias)
    query, key, value = (_heads(block, part) for part in packed.chunk(3, dim=-1))
    return query, key, value


def _heads(block: nn.Module, hidden: Tensor) -> Tensor:
    return hidden.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2)


def _join(prefix: Tensor, own: Tensor) -> Tensor:
    """Keys (or values) of the shared positions [G, heads, P, e] in front of each class's own [G * C, heads, S, e]."""
    classes = own.shape[0] // prefix.shape[0]
    spread = prefix[:, None].expand(-1, classes, -1, -1, -1).reshape(own.shape[0], *prefix.shape[1:])
    return torch.cat([spread, own], dim=-2)


def _merge(block: nn.Module, seen: Tensor) -> Tensor:
    out = block.attn.out_proj
    return F.linear(seen.transpose(1, 2).flatten(-2), out.weight, out.bias)


def _feed_forward(block: nn.Module, hidden: Tensor) -> Tensor:
    return hidden + block.mlp(_layer_norm(block.ln_2, hidden))


def _layer_norm(norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    """In float32 whatever the precision around it, as OpenAI's LayerNorm; float64 stays float64."""
    wide = hidden if hidden.dtype == torch.float64 else hidden.float()
    normed = F.layer_norm(wide, norm.normalized_shape, norm.weight.to(wide.dtype), norm.bias.to(wide.dtype), norm.eps)
    return normed.to(hidden.dtype)
