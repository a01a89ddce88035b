"""Learnt vectors of deep prompting, kept under the names of the official checkpoints."""

import torch
from torch import Tensor, nn

from fdbpl.errors import UserError

IMAGE, TEXT = "image_encoder", "text_encoder"


class NamedParameters(nn.Module):
    """Parameters under dotted names, which are those of its state dict."""

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
    """Width of the ViT that prompts of this depth go into.

    Args:
        depth: number of blocks that get prompts, counted from the first. key: its configuration key, for the error.

    Raises:
        UserError: the image tower is no ViT, or has fewer blocks.
    """
    visual = clip_model.visual
    if not hasattr(visual, "transformer"):
        raise UserError(
            "expected a ViT for visual prompts, found a ResNet; choose MODEL.BACKBONE.NAME ViT-B/32 or such"
        )
    _refuse_depth(depth, len(visual.transformer.resblocks), key)
    return visual.class_embedding.shape[0]


def visual_prompts(clip_model: nn.Module, count: int, depth: int, key: str) -> dict[str, nn.Parameter]:
    """`count` vectors at the input of the ViT and of its blocks 1 ... depth - 1, each from N(0, 0.02^2).

    Raises:
        UserError: as `visual_width`.
    """
    width, device = visual_width(clip_model, depth, key), clip_model.visual.class_embedding.device
    return {f"{IMAGE}.{name}": _drawn(count, width, device) for name in ["VPT", *_names(depth)]}


def deep_text_prompts(clip_model: nn.Module, count: int, depth: int, key: str) -> dict[str, nn.Parameter]:
    """`count` vectors for positions 1 ... count at the input of the text blocks 1 ... depth - 1."""
    embedding = clip_model.token_embedding.weight
    _refuse_depth(depth, len(clip_model.transformer.resblocks), key)
    return {f"{TEXT}.{name}": _drawn(count, embedding.shape[1], embedding.device) for name in _names(depth)}


def by_block(prompts: list[Tensor]) -> dict[int, Tensor]:
    """Deep prompts as `Prompts.deep` takes them: block 1 gets the first."""
    return dict(enumerate(prompts, start=1))


def _names(depth: int) -> list[str]:
    return [f"transformer.resblocks.{block}.VPT_shallow" for block in range(1, depth)]


def _drawn(count: int, width: int, device: torch.device) -> nn.Parameter:
    vectors = nn.init.normal_(torch.empty(count, width), std=0.02)  # on the CPU: the same numbers on every device
    return nn.Parameter(vectors.to(device))


def _refuse_depth(depth: int, blocks: int, key: str) -> None:
    if not 1 <= depth <= blocks:
        raise UserError(f"expected {key} from 1 to the {blocks} blocks of this backbone, found {depth}; set another")
