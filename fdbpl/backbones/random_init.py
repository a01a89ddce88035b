"""CLIPs of the published architectures with random weights, for benchmarks of speed and memory."""

import hashlib
from functools import cache

import torch
from torch import nn

from fdbpl.backbones.backbone import Backbone
from fdbpl.backbones.openai import wrap
from fdbpl.backbones.openai_package import clip_package
from fdbpl.errors import UserError

# arguments of `clip.model.CLIP`: embedding width; image encoder: pixels, blocks, width, patch; text encoder: width,
# heads, blocks
ARCHITECTURES = {
    "RN50": (1024, 224, (3, 4, 6, 3), 64, None, 512, 8, 12),
    "ViT-B/32": (512, 224, 12, 768, 32, 512, 8, 12),
    "ViT-B/16": (512, 224, 12, 768, 16, 512, 8, 12),
    "ViT-L/14": (768, 224, 24, 1024, 14, 768, 12, 12),
    "ViT-H/14": (1024, 224, 32, 1280, 14, 1024, 16, 24),
    "tiny": (32, 32, 2, 64, 16, 64, 2, 2),
    "tiny teacher": (16, 32, 1, 64, 16, 64, 2, 2),
}
EMBEDDING_GAIN = 10.0  # with OpenAI's small initial token embeddings all class features would be alike


def sha256(which: str) -> str:
    """Hash that identifies the weights, which depend on the architecture's name only."""
    return hashlib.sha256(f"random weights of {which}".encode()).hexdigest()


@cache  # the model is frozen and can be shared
def load_random_init(which: str, device: str, dtype: torch.dtype) -> Backbone:
    """Build the architecture `which` with random weights that depend on its name only.

    Raises:
        UserError: the architecture is unknown.
    """
    return wrap(_build(which), f"random:{which}", sha256(which), device, dtype)


load = load_random_init  # the name that every backend defines


def is_available(which: str) -> bool:
    return True


def _build(which: str) -> nn.Module:
    if which not in ARCHITECTURES:
        raise UserError(f"Unknown architecture random:{which}: choose one of {', '.join(ARCHITECTURES)}.")
    embed, pixels, blocks, width, patch, text_width, heads, text_blocks = ARCHITECTURES[which]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(int(sha256(which)[:8], 16))
        clip = clip_package().model.CLIP
        model = clip(embed, pixels, blocks, width, patch, 77, 49408, text_width, heads, text_blocks)
        model.token_embedding.weight.mul_(EMBEDDING_GAIN)
    return model.eval().requires_grad_(False)
