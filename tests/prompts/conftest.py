"""A tiny random CLIP of OpenAI's class, and names of different lengths."""

import pytest
import torch

NAMES = ["cat", "golden retriever", "Boeing 737-800", "wheel_chair", "golden eagle of the high mountains", "ramen"]


@pytest.fixture(scope="session")
def tiny_clip():
    from clip.model import CLIP

    torch.manual_seed(0)
    model = CLIP(
        embed_dim=32, image_resolution=32, vision_layers=1, vision_width=64, vision_patch_size=16, context_length=77,
        vocab_size=49408, transformer_width=128, transformer_heads=2, transformer_layers=3,
    )  # fmt: skip
    with torch.no_grad():
        for name, value in model.named_parameters():  # large enough to detect a wrong position or mask
            if "ln_" in name:
                value.add_(0.1 * torch.randn_like(value))
        model.token_embedding.weight.mul_(12)
        model.positional_embedding.mul_(8)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def classnames() -> list[str]:
    return list(NAMES)
