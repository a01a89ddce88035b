"""Example of a new backbone: `colours:SIZE`, a teacher that recognizes eight colours in images of SIZE pixels."""

import hashlib

import torch
from torch import Tensor, nn

from fdbpl.backbones.backbone import Backbone
from fdbpl.errors import UserError

NAMES = ("black", "white", "red", "green", "blue", "yellow", "cyan", "magenta")
RGB = [(0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1)]


class Colours(nn.Module):
    """Image encoder: the fraction of an image's pixels that are nearest to each colour."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb = nn.Parameter(torch.tensor(RGB, dtype=torch.float32), requires_grad=False)

    def encode_image(self, images: Tensor) -> Tensor:
        pixels = images.flatten(2).transpose(1, 2).float()  # [B, S * S, 3] in [0, 1]
        nearest = torch.cdist(pixels, self.rgb.float()).argmin(-1)
        return nn.functional.one_hot(nearest, len(NAMES)).float().mean(1)


def tokenize(texts: list[str]) -> Tensor:
    """Indicators of the colour names in each text: int64 [C, 8]."""
    return torch.tensor([[int(name in text.split()) for name in NAMES] for text in texts])


def load(size: str, device: str, dtype: torch.dtype) -> Backbone:
    if not size.isdigit() or int(size) < 1:
        raise UserError(f"colours:{size} has no image size in pixels. Write it after the colon, e.g. colours:224")
    return Backbone(
        name=f"colours:{size}",
        model=Colours().to(device, dtype).eval(),
        sha256=sha256(size),
        image_size=int(size),
        embed_dim=len(NAMES),
        logit_scale=10.0,
        tokenize=tokenize,
        encode_tokens=lambda tokens: tokens.float() + 1e-3,  # a text without colours is equally close to all of them
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


def sha256(size: str) -> str:
    """Hash that identifies the teacher in banks. It changes with NAMES and RGB."""
    return hashlib.sha256(repr((size, NAMES, RGB)).encode()).hexdigest()


def is_available(size: str) -> bool:
    return True
