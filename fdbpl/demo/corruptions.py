"""Corruptions of an image, of the kinds of ImageNet-C (Hendrycks and Dietterich, 2019), each at one fixed severity."""

from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

CORRUPTIONS = ("noise", "blur", "contrast", "pixelate", "jpeg")


def corrupted(rng: np.random.Generator, image: Image.Image, kind: str) -> Image.Image:
    """Apply one of CORRUPTIONS to an RGB image; the severity is relative to the shorter side."""
    side = min(image.size)
    if kind == "noise":  # in cells large enough to remain after the resize to a model's input
        cell = max(1, side // 64)
        shape = (-(-image.height // cell), -(-image.width // cell), 3)
        noise = np.kron(rng.standard_normal(shape, np.float32), np.ones((cell, cell, 1), np.float32))
        pixels = np.asarray(image, np.float32) + 34 * noise[: image.height, : image.width]
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(side * 0.03))
    if kind == "contrast":
        pixels = np.asarray(image, np.float32)
        mean = pixels.mean((0, 1))
        return Image.fromarray(np.clip(mean + 0.4 * (pixels - mean), 0, 255).astype(np.uint8))
    if kind == "pixelate":
        small = image.resize([max(1, length * 20 // side) for length in image.size], Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.NEAREST)
    buffer = BytesIO()
    image.resize([max(8, length * 96 // side) for length in image.size]).save(buffer, "JPEG", quality=8)
    return Image.open(buffer).convert("RGB").resize(image.size)
