"""Deep visual prompts in OpenAI's unmodified ViT (Jia et al., Visual Prompt Tuning, ECCV 2022).

Official form for CLIP: `clip/model.py` of muzairkhattak/multimodal-prompt-learning. The first n prompts are
appended to the patches after the positional embedding is added; the next n replace them at the input of the next block,
and so on.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdbpl.prompts.blocks import feed_forward, heads, layer_norm, merge


def encode_images(clip_model: nn.Module, images: Tensor, prompts: list[Tensor]) -> Tensor:
    """Encode images with prompts; the features are not normalised.

    Args:
        clip_model: OpenAI's CLIP with a ViT.
        images: normalised, [B, 3, S, S].
        prompts: vectors [n, d] for the input, then for the blocks 1, 2, ...

    Returns:
        float32 [B, D]; differentiable in `prompts`.
    """
    visual, dtype = clip_model.visual, clip_model.dtype
    patches = visual.conv1(images.to(dtype)).flatten(2).transpose(1, 2)  # [B, P, d]
    first = visual.class_embedding.to(dtype).expand(len(patches), 1, -1)
    hidden = torch.cat([first, patches], dim=1) + visual.positional_embedding.to(dtype)
    hidden = layer_norm(visual.ln_pre, _replace_end(hidden, hidden.shape[1], prompts[0]))
    blocks = visual.transformer.resblocks
    for number, block in enumerate(blocks):
        if 0 < number < len(prompts):
            hidden = _replace_end(hidden, hidden.shape[1] - len(prompts[number]), prompts[number])
        last = number == len(blocks) - 1  # only its class token is used
        hidden = _block_forward(block, hidden, 1 if last else hidden.shape[1])
    return (layer_norm(visual.ln_post, hidden[:, 0]).to(dtype) @ visual.proj).float()


def _replace_end(hidden: Tensor, kept: int, prompts: Tensor) -> Tensor:
    """Append `prompts`, [n, d], to the first `kept` positions of [B, S, d]."""
    return torch.cat([hidden[:, :kept], prompts.to(hidden.dtype).expand(len(hidden), -1, -1)], dim=1)


def _block_forward(block: nn.Module, hidden: Tensor, rows: int) -> Tensor:
    """Compute the first `rows` positions of a residual attention block's output."""
    normed, width = layer_norm(block.ln_1, hidden), hidden.shape[-1]
    weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias
    query = heads(block, F.linear(normed[:, :rows], weight[:width], bias[:width]))
    key, value = (heads(block, part) for part in F.linear(normed, weight[width:], bias[width:]).chunk(2, dim=-1))
    return feed_forward(block, hidden[:, :rows] + merge(block, F.scaled_dot_product_attention(query, key, value)))
