"""Exact text encoding of prompts with OpenAI's unmodified CLIP, on far fewer tokens than 77 per class.

CLIP's text encoder is causal: position i attends to positions <= i only. This allows savings that are exact:

* **Truncation.** The class feature is read at EOT, so positions after EOT cannot affect it. L = max(EOT) + 1 positions
  are encoded instead of 77.
* **Shared prefix.** The hidden states of the first P positions do not depend on later ones. Positions with the same
  vectors for all classes (`Prompts.shared`: SOS and the context if the class name is at the end; SOS and the first half
  of the context if it is in the middle; SOS and the common first tokens of all names if it is at the front) are encoded
  once, and each class's remaining positions attend to their keys and values. The gradient of the shared positions sums
  over classes through the expanded keys and values, as it would through C copies.
  With class-specific contexts at most SOS is common; below two positions a prefix would cost more than it saves, and
  only truncation is used. Contexts that depend on the image are shared inside a group (one group per image).
* **Deep prompts** replace positions 1 ... n at a block's input. If they are the same for all classes they stay inside
  the shared prefix. If they differ by class (TCP), sharing ends at that block.
* **No padding.** Names differ in length. Operations on single positions (linear layers, norms, MLP) run on the packed
  positions up to each class's own EOT; only attention pads them to the longest.
* **One row in the last block.** Only EOT's row of the last block's output is used, so that its queries and its MLP are
  computed for that row only; keys and values are needed for all positions.

The memory of the backward pass grows with the number of prompts. With `chunk` at most that many are encoded at a time,
and their activations are recomputed in the backward pass: the same values, at the cost of a second forward pass.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fdbpl.prompts.blocks import feed_forward, heads, layer_norm, merge
from fdbpl.prompts.context import Prompts

MIN_SHARED = 2  # positions; sharing a single one (SOS) costs more than it saves


def encode_prompts(clip_model: nn.Module, prompts: Prompts, chunk: int = 0) -> Tensor:
    """Encode prompts to text features, which are not normalised.

    Args:
        clip_model: OpenAI's CLIP (float32, float16 by `convert_weights`, or bfloat16) or autocast around it.
        prompts: C classes, [C, L, d], or G groups of them, [G, C, L, d].
        chunk: largest number of prompts that are encoded at a time; 0 = all at once.

    Returns:
        float32 [C, D] or [G, C, D]; differentiable in `prompts.embeddings` and `prompts.deep`.
    """
    if not chunk or prompts.embeddings.shape[:-2].numel() <= chunk:
        return _encode(clip_model, prompts)
    if prompts.embeddings.dim() == 4:
        groups = [_chunked(clip_model, part, chunk) for part in prompts.split_groups(max(1, chunk // prompts.classes))]
        return torch.cat(groups)
    return _chunked(clip_model, prompts, chunk)


def _chunked(clip_model: nn.Module, prompts: Prompts, chunk: int) -> Tensor:
    """Encode `chunk` classes at a time, with activation checkpointing."""
    parts = [
        checkpoint(_encode, clip_model, part, use_reentrant=False, preserve_rng_state=False)  # nothing here is random
        for part in prompts.split(chunk)
    ]
    return torch.cat(parts, dim=-2)


def _encode(clip_model: nn.Module, prompts: Prompts) -> Tensor:
    embeddings = prompts.embeddings
    groups = embeddings.shape[0] if embeddings.dim() == 4 else 1
    classes, length, width = embeddings.shape[-3:]
    dtype = clip_model.dtype
    hidden = embeddings.to(dtype) + clip_model.positional_embedding[:length].to(dtype)
    hidden = hidden.view(groups, classes, length, width)

    cut = prompts.shared if prompts.shared >= MIN_SHARED and classes > 1 else 0
    prefix = hidden[:, 0, :cut] if cut else None  # [G, P, d]
    suffix = hidden[:, :, cut:].reshape(groups * classes, length - cut, width)  # [G * C, S, d]
    eot = prompts.eot.repeat(groups) if prompts.eot.dim() == 1 else prompts.eot.reshape(-1)
    packing = _packing(prefix, suffix, _ends(prompts, groups, cut), prompts.deep)
    suffix = packing.packed(suffix)  # [T, d]
    *blocks, last = clip_model.transformer.resblocks
    for number, block in enumerate(blocks):
        prefix, suffix, packing = _insert(prefix, suffix, packing, prompts.deep.get(number))
        prefix, suffix = _block_forward(block, prefix, suffix, packing)
    prefix, suffix, packing = _insert(prefix, suffix, packing, prompts.deep.get(len(blocks)))
    hidden = _last_block_eot_only(last, prefix, suffix, packing, eot)
    features = layer_norm(clip_model.ln_final, hidden).to(dtype) @ clip_model.text_projection
    features = features.float()
    return features.view(groups, classes, -1) if embeddings.dim() == 4 else features


def encode_prompt_sets(clip_model: nn.Module, *spaces: Prompts, chunk: int = 0) -> list[Tensor]:
    """Encode several prompt sets over the same classes, in one pass if their shapes agree.

    Args:
        chunk: see `encode_prompts`.

    Returns:
        One float32 [C, D] per prompt set.
    """
    first = spaces[0]
    alike = all(
        space.embeddings.shape == first.embeddings.shape and space.shared == first.shared and not space.deep
        for space in spaces
    )
    if len(spaces) == 1 or not alike:
        return [encode_prompts(clip_model, space, chunk) for space in spaces]
    host_eot = [space.host_eot for space in spaces if space.host_eot is not None]
    stacked = Prompts(
        torch.stack([space.embeddings for space in spaces]),
        torch.stack([space.eot for space in spaces]),
        first.shared,
        host_eot=torch.stack(host_eot) if len(host_eot) == len(spaces) else None,
    )
    return list(encode_prompts(clip_model, stacked, chunk))


@dataclass(frozen=True)
class _Packing:
    """Positions of N prompts up to their EOT.

    Attributes:
        rows: int64 [T], their indices in the flattened [N, S]; None = all.
        sources: int64 [N * S], the packed row of each position; EOT's after EOT.
    """

    count: int
    length: int
    rows: Tensor | None = None
    sources: Tensor | None = None

    def packed(self, padded: Tensor) -> Tensor:
        """Pack [N, S, d] to [T, d]."""
        flat = padded.reshape(-1, padded.shape[-1])
        return flat if self.rows is None else _PackRows.apply(flat, self.rows)

    def padded(self, packed: Tensor) -> Tensor:
        """Pad [T, d] to [N, S, d] with copies of EOT, to which no earlier position attends."""
        flat = packed if self.rows is None else _PadRows.apply(packed, self.rows, self.sources)
        return flat.view(self.count, self.length, -1)


class _PackRows(torch.autograd.Function):
    """Select rows of a matrix, each at most once; unlike in `index_select`, the backward pass needs no summation."""

    @staticmethod
    def forward(ctx, padded: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.height = len(padded)
        return padded.index_select(0, rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.height, gradient.shape[-1])
        return whole.index_put_((ctx.saved_tensors[0],), gradient), None


class _PadRows(torch.autograd.Function):
    """Inverse of `_PackRows` with copies of rows elsewhere, whose gradients are zero as no position attends to them."""

    @staticmethod
    def forward(ctx, packed: Tensor, rows: Tensor, sources: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return packed.index_select(0, sources)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


def _ends(prompts: Prompts, groups: int, cut: int) -> tuple[int, ...] | None:
    """Return the last position of each of the N prompts, relative to `cut`; None if the host does not know it."""
    eot = prompts.eot if prompts.eot.device.type == "cpu" else prompts.host_eot
    if eot is None:
        return None
    return tuple((eot - cut).flatten().tolist()) * (groups if eot.dim() == 1 else 1)


def _packing(prefix: Tensor | None, suffix: Tensor, ends: tuple[int, ...] | None, deep: dict[int, Tensor]) -> _Packing:
    """Pack the positions up to `ends`; keep all of them if deep prompts replace some or the host does not know the
    ends."""
    count, length = suffix.shape[:2]
    kept = 0 if prefix is None else prefix.shape[1]
    among = any(value.dim() == 3 or 1 + value.shape[-2] > kept for value in deep.values())
    return _Packing(count, length, *(() if among or ends is None else _rows(ends, length, suffix.device)))


@lru_cache(maxsize=256)  # the same in every step: copied to a GPU once
def _rows(ends: tuple[int, ...], length: int, device: torch.device) -> tuple[Tensor, Tensor] | tuple[()]:
    """Return `rows` and `sources` of the positions up to each prompt's end; () = all."""
    kept = (torch.arange(length) <= torch.tensor(ends)[:, None]).flatten()
    if kept.all():
        return ()
    found = kept.nonzero()[:, 0], kept.cumsum(0) - 1
    return tuple(index.to(device, non_blocking=True) for index in found)


def _insert(
    prefix: Tensor | None, suffix: Tensor, packing: _Packing, deep: Tensor | None
) -> tuple[Tensor | None, Tensor, _Packing]:
    """Replace positions 1 ... n by `deep`, [n, d] or [C, n, d]; None changes nothing."""
    if deep is None:
        return prefix, suffix, packing
    last = 1 + deep.shape[-2]
    if prefix is not None and deep.dim() == 2 and last <= prefix.shape[1]:
        return _replace(prefix, deep), suffix, packing
    suffix = packing.padded(suffix)
    if prefix is not None:  # the prefix now differs between classes
        suffix = _concat_prefix(prefix, suffix)
        packing = _Packing(*suffix.shape[:2])
    return None, packing.packed(_replace(suffix, deep)), packing


def _replace(hidden: Tensor, deep: Tensor) -> Tensor:
    """Replace positions 1 ... n of [N, S, d] by `deep`, [n, d] or [C, n, d]."""
    deep = deep.to(hidden.dtype)
    deep = deep.repeat(len(hidden) // len(deep), 1, 1) if deep.dim() == 3 else deep.expand(len(hidden), -1, -1)
    return torch.cat([hidden[:, :1], deep, hidden[:, 1 + deep.shape[1] :]], dim=1)


def _block_forward(
    block: nn.Module, prefix: Tensor | None, suffix: Tensor, packing: _Packing
) -> tuple[Tensor | None, Tensor]:
    """Apply a residual attention block to [G, P, d] shared and [T, d] packed own positions of [G * C, S].

    Both pass through the linear layers together, so that weights are read once.
    """
    sizes = [0 if prefix is None else prefix.shape[:2].numel(), len(suffix)]
    hidden = suffix if prefix is None else torch.cat([prefix.flatten(0, 1), suffix])
    projected = F.linear(layer_norm(block.ln_1, hidden), block.attn.in_proj_weight, block.attn.in_proj_bias)
    shared, own = projected.split(sizes)
    query, key, value = (heads(block, part) for part in packing.padded(own).chunk(3, dim=-1))
    if prefix is None:
        seen = packing.packed(_concat_heads(F.scaled_dot_product_attention(query, key, value, is_causal=True)))
    else:
        cut, shared = prefix.shape[1], shared.view(*prefix.shape[:2], -1)
        prefix_query, prefix_key, prefix_value = (heads(block, part) for part in shared.chunk(3, dim=-1))
        key, value = _concat_prefix(prefix_key, key), _concat_prefix(prefix_value, value)
        reach = torch.arange(key.shape[-2], device=suffix.device)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=reach <= reach[cut:, None])
        before = F.scaled_dot_product_attention(prefix_query, prefix_key, prefix_value, is_causal=True)
        seen = torch.cat([_concat_heads(before).flatten(0, 1), packing.packed(_concat_heads(seen))])
    out = block.attn.out_proj
    shared, own = feed_forward(block, hidden + F.linear(seen, out.weight, out.bias)).split(sizes)
    return None if prefix is None else shared.view(prefix.shape), own


def _concat_heads(seen: Tensor) -> Tensor:
    """Concatenate the heads' outputs: [N, heads, S, e] -> [N, S, d]."""
    return seen.transpose(1, 2).flatten(-2)


def _last_block_eot_only(
    block: nn.Module, prefix: Tensor | None, suffix: Tensor, packing: _Packing, eot: Tensor
) -> Tensor:
    """Compute the last block's output at EOT only: [G * C, d]."""
    cut = 0 if prefix is None else prefix.shape[1]
    ends = torch.arange(len(eot), device=eot.device) * packing.length + eot - cut
    ends = ends if packing.sources is None else packing.sources[ends]
    normed = layer_norm(block.ln_1, suffix)
    width = suffix.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    query = heads(block, F.linear(_PackRows.apply(normed, ends)[:, None], weight[:width], bias[:width]))
    own = packing.padded(F.linear(normed, weight[width:], bias[width:]))
    key, value = (heads(block, part) for part in own.chunk(2, dim=-1))
    if prefix is not None:
        pair = F.linear(layer_norm(block.ln_1, prefix), weight[width:], bias[width:]).chunk(2, dim=-1)
        key, value = (_concat_prefix(heads(block, part), mine) for part, mine in zip(pair, (key, value), strict=True))
    visible = torch.arange(key.shape[-2], device=eot.device) <= eot[:, None, None, None]  # [G * C, 1, 1, P + S]
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    return feed_forward(block, _PackRows.apply(suffix, ends)[:, None] + merge(block, seen))[:, 0]


def _concat_prefix(prefix: Tensor, own: Tensor) -> Tensor:
    """Prepend the shared positions of each group, [G, ..., P, e], to those of its classes, [G * C, ..., S, e]."""
    own = own.unflatten(0, (len(prefix), -1))
    shared = prefix[:, None].expand(*own.shape[:-2], *prefix.shape[-2:])
    return torch.cat([shared, own], dim=-2).flatten(0, 1)
