"""Trainable vectors of deep prompting, with the parameter names of the official checkpoints."""

import torch
from torch import Tensor, nn

from fdbpl.errors import UserError

IMAGE, TEXT = "image_encoder", "text_encoder"


class NamedParameters(nn.Module):
    """Module whose state dict has the given dotted names."""

    def __init__(self, parameters: dict[str, nn.Parameter]):
        super().__init__()
        for name, parameter in parameters.items():
            *path, last = name.split(".")
            node: nn.Module = self
            for part in path:
                if part not in node._modules:
                    node.add_module(part, nn.Module())
                node = node._modules[part]
            node.register_parameter(last, parameter)


def visual_width(clip_model: nn.Module, depth: int, key: str) -> int:
    """Return the width of the ViT after checking that it has `depth` blocks.

    Args:
        depth: number of blocks with prompts, counted from the first. key: configuration key, for the error message.

    Raises:
        UserError: the image encoder is not a ViT, or has fewer blocks.
    """
    visual = clip_model.visual
    if not hasattr(visual, "transformer"):
        raise UserError(
            "Visual prompts need a ViT, but this backbone is a ResNet. Set MODEL.BACKBONE.NAME to e.g. ViT-B/32."
        )
    _check_depth(depth, len(visual.transformer.resblocks), key)
    return visual.class_embedding.shape[0]


def visual_prompts(clip_model: nn.Module, count: int, depth: int, key: str) -> dict[str, nn.Parameter]:
    """Create `count` vectors for the input of the ViT and of its blocks 1 ... depth - 1, sampled from N(0, 0.02^2).

    Raises:
        UserError: see `visual_width`.
    """
    width, device = visual_width(clip_model, depth, key), clip_model.visual.class_embedding.device
    return {f"{IMAGE}.{name}": _random_vectors(count, width, device) for name in ["VPT", *_names(depth)]}


def deep_text_prompts(clip_model: nn.Module, count: int, depth: int, key: str) -> dict[str, nn.Parameter]:
    """Create vectors for positions 1 ... count at the input of the text blocks 1 ... depth - 1."""
    embedding = clip_model.token_embedding.weight
    _check_depth(depth, len(clip_model.transformer.resblocks), key)
    return {f"{TEXT}.{name}": _random_vectors(count, embedding.shape[1], embedding.device) for name in _names(depth)}


def by_block(prompts: list[Tensor]) -> dict[int, Tensor]:
    """Map block numbers, from 1 on, to deep prompts, as `Prompts.deep` expects them."""
    return dict(enumerate(prompts, start=1))


def _names(depth: int) -> list[str]:
    return [f"transformer.resblocks.{block}.VPT_shallow" for block in range(1, depth)]


def _random_vectors(count: int, width: int, device: torch.device) -> nn.Parameter:
    vectors = nn.init.normal_(torch.empty(count, width), std=0.02)  # on the CPU: independent of the device
    return nn.Parameter(vectors.to(device))


def _check_depth(depth: int, blocks: int, key: str) -> None:
    if not 1 <= depth <= blocks:
        raise UserError(f"{key} is {depth}, but has to be from 1 to the {blocks} blocks of this backbone.")
