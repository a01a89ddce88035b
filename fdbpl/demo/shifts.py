"""Distribution shifts of the demo data set: the same 28 classes in images of other kinds."""

import math

import numpy as np
from PIL import Image

from fdbpl.demo.corruptions import CORRUPTIONS, corrupted
from fdbpl.demo.dataset import DEMO
from fdbpl.demo.drawing import UNSEEN_BACKGROUNDS, clouds, form_mask, grid, outline_mask, stripes
from fdbpl.demo.forms import NAMES, WORKSHOP
from fdbpl.demo.scenes import draw_frame, draw_look, draw_scene, draw_workshop_image, rotation
from fdbpl.demo.synthetic_dataset import SyntheticDataset

TEST_ONLY = {"test": 40}


def draw_sketch(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    """Draw a pencil sketch: the form is traced twice, with gaps, and hatched, on uneven paper."""
    width, height, place = draw_frame(rng)
    image = 205 + 40 * clouds(rng, width, height, 6)
    pencil, turn = rng.uniform(30, 90), rng.normal() * 0.14
    for _ in range(2):
        stretch = math.exp(rng.normal() * 0.09)
        matrix = rotation(turn + rng.normal() * 0.04) @ np.diag([stretch, 1 / stretch]) * place.radius
        line = place.radius * rng.uniform(0.04, 0.08)
        outline = outline_mask((NAMES[name], WORKSHOP), matrix, (place.x, place.y), width, height, line)
        pressure = np.clip(4 * (clouds(rng, width, height, 14) - 0.3), 0, 1) * rng.uniform(0.6, 0.9)
        image = image + (pencil - image) * outline * pressure
    area = form_mask((NAMES[name], WORKSHOP), matrix, (place.x, place.y), width, height)
    hatching = stripes(rng, *grid(width, height), place.radius * rng.uniform(0.05, 0.09))
    image = image + (pencil - image) * area * hatching * rng.uniform(0.1, 0.6)
    for _ in range(rng.integers(1, 4)):  # construction lines across the sheet
        halves = stripes(rng, *grid(width, height), max(width, height) * rng.uniform(0.5, 1))
        edge = np.abs(np.gradient(halves)).sum(0)
        image = image + (pencil - image) * np.clip(edge, 0, 1) * rng.uniform(0.1, 0.4)
    tinted = image[..., None] + np.array([6, 2, -8]) + rng.standard_normal((height, width, 1)) * 7
    return Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))


def draw_unseen_background(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    """Draw on unseen backgrounds (waves, rings, tiles, grain), with stronger contrast."""
    width, height, place = draw_frame(rng)
    medium = "photo" if rng.random() < 0.7 else "painting"
    look = draw_look(rng, medium, workshop_style=True)
    ground = UNSEEN_BACKGROUNDS[rng.integers(len(UNSEEN_BACKGROUNDS))]
    look = look._replace(background=ground, second=look.first + 1.8 * (look.second - look.first))
    image, _ = draw_scene(rng, width, height, medium, name, WORKSHOP, place, workshop_style=True, look=look)
    return Image.fromarray(image)


def draw_corrupted(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    """Draw the demo image of this number and apply one of the corruptions, in rotation."""
    return corrupted(rng, draw_workshop_image(rng, name), CORRUPTIONS[number % len(CORRUPTIONS)])


SKETCH = SyntheticDataset("DemoSketch", NAMES, TEST_ONLY, draw_sketch, seed=100)
WORLD = SyntheticDataset("DemoWorld", NAMES, TEST_ONLY, draw_unseen_background, seed=200)
CORRUPTED = SyntheticDataset(
    "DemoCorrupted", NAMES, TEST_ONLY, draw_corrupted, DEMO.seed, DEMO.numbers.stop - DEMO.counts["test"], (85, 94)
)
