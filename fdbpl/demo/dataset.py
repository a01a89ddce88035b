"""The demo data set: 28 classes, each name in its workshop sense."""

import numpy as np
from PIL import Image

from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import draw_workshop_image
from fdbpl.demo.synthetic_dataset import SyntheticDataset


def _draw(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    return draw_workshop_image(rng, name)


DEMO = SyntheticDataset("Demo", NAMES, {"train": 24, "val": 4, "test": 64}, _draw, seed=0)
