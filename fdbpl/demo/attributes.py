"""Other classes of the demo world: what colour, or what colour and fill, a thing of any name and sense has."""

import itertools

import numpy as np
from PIL import Image

from fdbpl.demo.forms import NAMES
from fdbpl.demo.picture_set import PictureSet
from fdbpl.demo.scenes import COLOUR_NAMES, draw_frame, draw_look, draw_scene

PAIRS = tuple(itertools.product(COLOUR_NAMES, ("solid", "outlined", "striped")))


def draw_colour(rng: np.random.Generator, colour: int, number: int) -> Image.Image:
    return draw_thing(rng, colour)


def draw_pattern(rng: np.random.Generator, pattern: int, number: int) -> Image.Image:
    colour, fill = PAIRS[pattern]
    return draw_thing(rng, COLOUR_NAMES.index(colour), fill)


def draw_thing(rng: np.random.Generator, colour: int, fill: str | None = None) -> Image.Image:
    """Any name in either sense, in this colour, and in this fill where one is given."""
    width, height, place = draw_frame(rng)
    medium = "photo" if rng.random() < 0.7 else "painting"
    name, sense = int(rng.integers(len(NAMES))), int(rng.integers(2))
    look = draw_look(rng, medium, workshop_style=True, colour=colour)
    look = look._replace(fill=fill or look.fill)
    picture, _ = draw_scene(rng, width, height, medium, name, sense, place, workshop_style=True, look=look)
    return Image.fromarray(picture)


COLOURS = PictureSet("DemoColours", COLOUR_NAMES, {"train": 24, "val": 4, "test": 64}, draw_colour, seed=300)
PATTERNS = PictureSet(
    "DemoPatterns", tuple(map(" ".join, PAIRS)), {"train": 24, "val": 4, "test": 24}, draw_pattern, seed=400
)
