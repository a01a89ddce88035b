"""The pictures that prompts are learnt and tested on: 28 names in their workshop sense."""

import numpy as np
from PIL import Image

from fdbpl.demo.forms import NAMES
from fdbpl.demo.picture_set import PictureSet
from fdbpl.demo.scenes import draw_workshop_picture


def _draw(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    return draw_workshop_picture(rng, name)


DEMO = PictureSet("Demo", NAMES, {"train": 24, "val": 4, "test": 64}, _draw, seed=0)
