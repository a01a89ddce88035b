"""Synthetic scenes: at most one named object among small distractors, in one of four media."""

import math
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fdbpl.demo.drawing import (
    BACKGROUNDS,
    UNSEEN_BACKGROUNDS,
    background,
    clouds,
    form_mask,
    grid,
    outline_mask,
    stripes,
)
from fdbpl.demo.forms import EVERYDAY, NAMES, WORKSHOP
from fdbpl.interruption import init_pool_worker

COLOURS = {
    "red": (205, 35, 40),
    "orange": (240, 135, 25),
    "yellow": (240, 220, 50),
    "green": (45, 150, 60),
    "blue": (40, 80, 200),
    "purple": (125, 50, 160),
    "pink": (245, 145, 185),
    "brown": (120, 75, 40),
    "white": (242, 242, 242),
    "black": (25, 25, 28),
}
COLOUR_NAMES = tuple(COLOURS)
PALETTE = np.array(list(COLOURS.values()), np.float32)
BLACK = COLOUR_NAMES.index("black")
FILLS = ("solid", "outlined", "striped", "dotted")
MEDIA = ("photo", "icon", "sketch", "painting")
NOTHING = len(NAMES)  # name of a scene without an object
NO_SENSE = 2  # sense of a scene without an object

# Frequency of each background and fill; prompts are trained and tested on "workshop", which is the most complex
BACKGROUND_SHARES = {
    "photo": (0.10, 0.22, 0.14, 0.14, 0.20, 0.20),
    "icon": (0.70, 0.30, 0.00, 0.00, 0.00, 0.00),
    "sketch": (0.60, 0.20, 0.00, 0.00, 0.20, 0.00),
    "painting": (0.10, 0.20, 0.15, 0.10, 0.10, 0.35),
    "workshop": (0.05, 0.10, 0.27, 0.23, 0.15, 0.20),
}
FILL_SHARES = {
    "photo": (0.62, 0.12, 0.16, 0.10),
    "icon": (0.90, 0.10, 0.00, 0.00),
    "sketch": (0.00, 1.00, 0.00, 0.00),
    "painting": (0.50, 0.10, 0.20, 0.20),
    "workshop": (0.45, 0.20, 0.20, 0.15),
}
NOISE = {"photo": 6, "icon": 1, "sketch": 5, "painting": 8}  # standard deviation in grey levels


class Facts(NamedTuple):
    """Labels of a scene; a row of int16 [n, 8]."""

    name: int  # index into NAMES, or NOTHING
    sense: int  # EVERYDAY, WORKSHOP or NO_SENSE
    colour: int
    medium: int
    fill: int
    background: int
    size: int
    blurred: int


class Look(NamedTuple):
    """Background, fill and colours of a scene."""

    background: str  # of BACKGROUNDS or UNSEEN_BACKGROUNDS
    fill: str
    colour: int  # of the object
    first: np.ndarray  # colours of the background, float32 [3]
    second: np.ndarray


class Place(NamedTuple):
    """Position and radius of the object, in pixels."""

    x: float
    y: float
    radius: float


def draw_scene(
    rng: np.random.Generator,
    width: int,
    height: int,
    medium: str,
    name: int,
    sense: int,
    place: Place | None = None,
    workshop_style: bool = False,
    look: Look | None = None,
) -> tuple[np.ndarray, Facts]:
    """Draw an image, uint8 [H, W, 3], and return it with its labels.

    Args:
        name: index into NAMES, or NOTHING.
        place, look: random by default.
        workshop_style: use the more complex backgrounds, fills and distortions of the images for prompt learning.
    """
    look = look or draw_look(rng, medium, workshop_style)
    share = background(rng, look.background, width, height)[..., None]
    image = look.first * (1 - share) + look.second * share
    place = place or draw_place(rng, width, height)
    image = add_distractors(rng, image, medium, None if name == NOTHING else place)
    if name != NOTHING:
        image = add_object(
            rng, image, medium, (NAMES[name], sense), PALETTE[look.colour], look.fill, place, workshop_style
        )
    blurred = medium == "photo" and rng.random() < 0.15
    noise = rng.standard_normal((height, width, 1), np.float32) * (NOISE[medium] + 4 * workshop_style)
    image = np.clip(image * rng.uniform(0.8, 1.1) + noise, 0, 255).astype(np.uint8)
    side = min(width, height)
    if blurred:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(side * 0.018)))
    size = 0 if place.radius < side * 0.28 else 2 if place.radius > side * 0.39 else 1
    ground = (*BACKGROUNDS, *UNSEEN_BACKGROUNDS).index(look.background)
    return image, Facts(
        name, NO_SENSE if name == NOTHING else sense, look.colour, MEDIA.index(medium), FILLS.index(look.fill), ground,
        size, int(blurred),
    )  # fmt: skip


def draw_look(rng: np.random.Generator, medium: str, workshop_style: bool = False, colour: int | None = None) -> Look:
    """Draw a background, a fill and colours; `colour` is the object's, random by default."""
    kind = "workshop" if workshop_style else medium
    ground = BACKGROUNDS[int(rng.choice(6, p=BACKGROUND_SHARES[kind]))]
    fill = FILLS[int(rng.choice(4, p=FILL_SHARES[kind]))]
    return Look(ground, fill, *draw_colours(rng, medium, workshop_style, colour))


def draw_colours(
    rng: np.random.Generator, medium: str, workshop_style: bool, colour: int | None = None
) -> tuple[int, np.ndarray, np.ndarray]:
    """Draw the object's colour and two background colours (float32 [3]) in contrast to it."""
    if colour is None:
        colour = BLACK if medium == "sketch" else int(rng.integers(len(PALETTE)))
    while True:
        first = np.array([245, 243, 235], np.float32) if medium == "sketch" else PALETTE[rng.integers(len(PALETTE))]
        mix = rng.uniform(0, 0.4) if medium == "icon" else rng.uniform(0.25, 0.75)
        first = first * (1 - mix) + mix * rng.uniform(60, 240)
        if np.abs(first - PALETTE[colour]).sum() > 140:
            break
    mix = rng.uniform(0.2, 0.55) if workshop_style else rng.uniform(0.1, 0.45)
    return colour, first, first * (1 - mix) + mix * PALETTE[rng.integers(len(PALETTE))]


def draw_place(rng: np.random.Generator, width: int, height: int) -> Place:
    radius = min(width, height) * rng.uniform(0.24, 0.47)
    x = rng.uniform(min(radius, width / 2), max(width - radius, width / 2))
    y = rng.uniform(min(radius, height / 2), max(height - radius, height / 2))
    return Place(x, y, radius)


def add_distractors(rng: np.random.Generator, image: np.ndarray, medium: str, place: Place | None) -> np.ndarray:
    """Add up to three small forms of any name and sense, or blobs, mostly outside the object."""
    height, width = image.shape[:2]
    side = min(width, height)
    count = int(rng.integers(0, 4)) if medium in ("photo", "painting") else int(rng.random() < 0.2)
    for _ in range(count):
        colour = PALETTE[rng.integers(len(PALETTE))]
        x, y = rng.random() * width, rng.random() * height
        if place is not None and math.hypot(x - place.x, y - place.y) < place.radius * 0.9:
            x, y = rng.random() * width, rng.random() * height
        if rng.random() < 0.5:
            form = NAMES[rng.integers(len(NAMES))], int(rng.random() < 0.5)
            angle, radius = rng.normal() * 0.3, side * rng.uniform(0.07, 0.11)
            mask = form_mask(form, rotation(angle) * radius, (x, y), width, height)
        else:
            blob, radius = Image.new("L", (width, height)), side * rng.uniform(0.03, 0.07)
            ImageDraw.Draw(blob).ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)
            mask = np.asarray(blob, np.float32) / 255
        image = image * (1 - mask[..., None]) + colour * mask[..., None]
    return image


def add_object(
    rng: np.random.Generator,
    image: np.ndarray,
    medium: str,
    form: tuple[str, int],
    colour: np.ndarray,
    fill: str,
    place: Place,
    workshop_style: bool,
) -> np.ndarray:
    """Add the named object in its colour and fill, slightly rotated, stretched and sheared."""
    height, width = image.shape[:2]
    stretch = math.exp(rng.normal() * (0.096 if workshop_style else 0.08))
    shear = rng.normal() * (0.07 if workshop_style else 0.05)
    turn = rotation(rng.normal() * (0.138 if workshop_style else 0.11))
    line = 0 if fill == "solid" else max(1.0, place.radius * rng.uniform(0.07, 0.15))
    matrix = turn @ np.array([[stretch, shear], [0, 1 / stretch]]) * place.radius
    colour = colour + rng.normal(size=3).astype(np.float32) * 12
    if fill == "outlined":
        mask = outline_mask(form, matrix, (place.x, place.y), width, height, line)[..., None]
    else:
        mask = form_mask(form, matrix, (place.x, place.y), width, height)[..., None]
    x, y = grid(width, height)
    paint = colour
    if fill == "solid" and medium == "photo":
        angle = rng.random() * 2 * math.pi
        light = ((x - place.x) * math.cos(angle) + (y - place.y) * math.sin(angle)) / (place.radius * 1.2)
        paint = colour * (1 + 0.28 * np.clip(light, -1, 1))[..., None]
    elif fill == "solid" and medium == "painting":
        paint = colour * (0.75 + 0.5 * clouds(rng, width, height, 9))[..., None]
    elif fill in ("striped", "dotted"):
        if fill == "striped":
            pattern = stripes(rng, x, y, place.radius * rng.uniform(0.14, 0.26))
        else:
            period = place.radius * rng.uniform(0.26, 0.42)
            pattern = np.hypot(x % period - period / 2, y % period - period / 2) < period * 0.33
        pattern = pattern[..., None].astype(np.float32)
        paint = colour * pattern + (colour * 0.45 + 140 * 0.55) * (1 - pattern)
    return image * (1 - mask) + paint * mask


def rotation(angle: float) -> np.ndarray:
    """Return the [2, 2] matrix of a rotation."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def draw_pool(
    count: int, seed: int, media_shares: list[float], workshop_share: float, side: int = 72, empty: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """Draw scenes for pre-training: uint8 [count, side, side, 3], and their `Facts`, int16 [count, 8].

    Each scene depends only on (seed, number). One process per core draws them.
    """
    images, facts = np.empty((count, side, side, 3), np.uint8), np.empty((count, len(Facts._fields)), np.int16)
    chunks = [range(first, min(first + 1000, count)) for first in range(0, count, 1000)]
    draw = partial(_draw_chunk, seed, media_shares, workshop_share, side, empty)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=init_pool_worker) as pool:
        for chunk, (drawn, true) in zip(chunks, pool.map(draw, chunks), strict=True):
            images[chunk.start : chunk.stop], facts[chunk.start : chunk.stop] = drawn, true
    return images, facts


def _draw_chunk(
    seed: int, media_shares: list[float], workshop_share: float, side: int, empty: float, numbers: range
) -> tuple[np.ndarray, np.ndarray]:
    scenes = []
    for number in numbers:
        rng = np.random.default_rng([seed, number])
        name = NOTHING if rng.random() < empty else int(rng.integers(len(NAMES)))
        sense = WORKSHOP if rng.random() < workshop_share else EVERYDAY
        medium = MEDIA[rng.choice(len(MEDIA), p=media_shares)]
        scenes.append(draw_scene(rng, side, side, medium, name, sense))
    return np.stack([image for image, _ in scenes]), np.array([facts for _, facts in scenes], np.int16)


def draw_workshop_image(rng: np.random.Generator, name: int) -> Image.Image:
    """Draw an image for prompt learning: one large workshop form in a complex photo or painting."""
    width, height, place = draw_frame(rng)
    medium = "photo" if rng.random() < 0.7 else "painting"
    image, _ = draw_scene(rng, width, height, medium, name, WORKSHOP, place, workshop_style=True)
    return Image.fromarray(image)


def draw_frame(rng: np.random.Generator) -> tuple[int, int, Place]:
    """Draw width and height (96 to 256 px, at most 1 : 1.8) and a large place, mostly in the central square."""
    width, height = (int(side) for side in rng.integers(96, 257, 2))
    width, height = min(width, int(1.8 * height)), min(height, int(1.8 * width))
    side = min(width, height)
    radius = side * rng.uniform(0.24, 0.42)
    play = side / 2 - radius * 0.9
    x, y = width / 2 + rng.uniform(-1, 1) * play, height / 2 + rng.uniform(-1, 1) * play
    return width, height, Place(x, y, radius)
