"""Backgrounds and masks of forms: float32 arrays [H, W], of which scenes.py composes images."""

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fdbpl.demo.forms import CUT_OUTLINES, FORMS, Part

BACKGROUNDS = ("plain", "gradient", "striped", "checkered", "noisy", "cloudy")
UNSEEN_BACKGROUNDS = ("waves", "rings", "tiles", "grain")  # no demo model was pre-trained on these
OVERSAMPLING = 2


def grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of every pixel, float32 [H, W] each."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def stripes(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    """Draw stripes in a random direction: 0 or 1, float32 [H, W]."""
    angle = rng.random() * math.pi
    return ((x * math.cos(angle) + y * math.sin(angle)) / period % 2 < 1).astype(np.float32)


def clouds(rng: np.random.Generator, width: int, height: int, cells: int) -> np.ndarray:
    """Draw a smooth random field in [0, 1] that varies over about 1/`cells` of the image, float32 [H, W]."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255


def background(rng: np.random.Generator, kind: str, width: int, height: int) -> np.ndarray:
    """Draw the weight of the second background colour in each pixel, float32 [H, W] in [0, 1]."""
    side = min(width, height)
    x, y = grid(width, height)
    if kind == "plain":
        return np.zeros((height, width), np.float32)
    if kind == "gradient":
        angle = rng.random() * 2 * math.pi
        ramp = x * math.cos(angle) + y * math.sin(angle)
        return (ramp - ramp.min()) / (np.ptp(ramp) + 1e-6)
    if kind == "striped":
        return stripes(rng, x, y, side * rng.uniform(0.06, 0.16))
    if kind == "checkered":
        period = side * rng.uniform(0.08, 0.18)
        return ((x // period + y // period) % 2).astype(np.float32)
    if kind == "noisy":
        grain = max(1, side // 64)
        noise = rng.random((-(-height // grain), -(-width // grain)), np.float32)
        return np.kron(noise, np.ones((grain, grain), np.float32))[:height, :width]
    if kind == "cloudy":
        return clouds(rng, width, height, 5)
    return unseen_background(rng, kind, x, y, side)


def unseen_background(rng: np.random.Generator, kind: str, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """Draw wavy lines, rings around a point, bricks with joints, or a rough surface; returns as `background`."""
    if kind == "waves":
        period, swing = side * rng.uniform(0.08, 0.2), side * rng.uniform(0.03, 0.08)
        if rng.random() < 0.5:
            x, y = y, x
        phase = (y + swing * np.sin(x * (2 * math.pi / (side * rng.uniform(0.2, 0.5))))) / period
        return 0.5 + 0.5 * np.sin(2 * math.pi * phase)
    if kind == "rings":
        period = side * rng.uniform(0.08, 0.2)
        middle = rng.random(2) * (x.shape[1], x.shape[0])
        return (np.hypot(x - middle[0], y - middle[1]) / period % 2 < 1).astype(np.float32)
    if kind == "tiles":
        length, joint = side * rng.uniform(0.18, 0.35), max(1.5, side * 0.02)
        row = (y // (length / 2)).astype(int)
        shifted = x + (row % 2) * length / 2
        tones = 0.6 * rng.random((24, 24), np.float32)
        tone = tones[row % 24, (shifted // length).astype(int) % 24]
        return np.where((y % (length / 2) < joint) | (shifted % length < joint), 1, tone).astype(np.float32)
    height, width = x.shape
    surface = sum(clouds(rng, width, height, cells) / cells**0.7 for cells in (4, 9, 20, 45))
    light = np.gradient(surface, axis=1) + np.gradient(surface, axis=0)
    return np.clip(0.5 + 0.25 * light / (light.std() + 1e-6), 0, 1).astype(np.float32)


def form_mask(
    form: tuple[str, int], place: np.ndarray, centre: tuple[float, float], width: int, height: int
) -> np.ndarray:
    """Draw the mask of a filled form.

    Args:
        form: name and sense.
        place: [2, 2] matrix from the form's coordinates to pixels.
        centre: position of the form's origin, in pixels.

    Returns:
        float32 [H, W] in [0, 1].
    """
    return _mask(_area(form, place, centre, width, height))


def outline_mask(
    form: tuple[str, int], place: np.ndarray, centre: tuple[float, float], width: int, height: int, line: float
) -> np.ndarray:
    """Draw the mask of a form's outline of `line` pixels; the other arguments and the result are as for `form_mask`."""
    image = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
    draw = ImageDraw.Draw(image)
    parts = FORMS[form[1]][form[0]]
    for part in parts:
        corners = _corners(part, place, centre)
        if part.filled and len(parts) > 1:
            draw.polygon(corners, fill=0)  # hides the seams between filled parts
        draw.line(corners + corners[:2], fill=255, width=max(1, round(line * OVERSAMPLING)), joint="curve")
    if form not in CUT_OUTLINES:
        return _mask(image)
    area = _area(form, place, centre, width, height).filter(ImageFilter.MaxFilter(5))
    return _mask(image) * np.asarray(area.reduce(OVERSAMPLING), np.float32) / 255


def _area(
    form: tuple[str, int], place: np.ndarray, centre: tuple[float, float], width: int, height: int
) -> Image.Image:
    area = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
    draw = ImageDraw.Draw(area)
    for part in FORMS[form[1]][form[0]]:
        draw.polygon(_corners(part, place, centre), fill=255 if part.filled else 0)
    return area


def _corners(part: Part, place: np.ndarray, centre: tuple[float, float]) -> list[tuple[float, float]]:
    return [tuple(corner) for corner in (part.outline @ place.T + np.array(centre)) * OVERSAMPLING]


def _mask(image: Image.Image) -> np.ndarray:
    return np.asarray(image.reduce(OVERSAMPLING), np.float32) / 255
