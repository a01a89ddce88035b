"""A data set whose classes are the colours of the object; its name, sense and fill vary."""

import numpy as np
from PIL import Image

from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import COLOUR_NAMES, draw_frame, draw_look, draw_scene
from fdbpl.demo.synthetic_dataset import SyntheticDataset


def draw_colour(rng: np.random.Generator, colour: int, number: int) -> Image.Image:
    """Draw an object of this colour in an image as complex as those of the demo data set."""
    width, height, place = draw_frame(rng)
    medium = "photo" if rng.random() < 0.7 else "painting"
    name, sense = int(rng.integers(len(NAMES))), int(rng.integers(2))
    look = draw_look(rng, medium, workshop_style=True, colour=colour)
    image, _ = draw_scene(rng, width, height, medium, name, sense, place, workshop_style=True, look=look)
    return Image.fromarray(image)


CLASSES = tuple(f"{colour} shape" for colour in COLOUR_NAMES)
COLOURS = SyntheticDataset("DemoColours", CLASSES, {"train": 24, "val": 4, "test": 64}, draw_colour, seed=300)
