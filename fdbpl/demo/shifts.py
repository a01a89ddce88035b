"""The demo world under shift: its 28 names, workshop forms, in pictures unlike those that prompts are learnt on."""

import math

import numpy as np
from PIL import Image

from fdbpl.demo.corruptions import CORRUPTIONS, corrupted
from fdbpl.demo.drawing import UNSEEN_BACKGROUNDS, clouds, form_masks, grid, stripes
from fdbpl.demo.forms import NAMES, WORKSHOP
from fdbpl.demo.picture_set import PictureSet
from fdbpl.demo.pictures import DEMO
from fdbpl.demo.scenes import draw_frame, draw_look, draw_scene, draw_workshop_picture, rotation

TEST_ONLY = {"test": 40}


def draw_sketch(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    """Another drawing style: a pencil goes twice about the form, with gaps, and hatches it, on uneven paper."""
    width, height, place = draw_frame(rng)
    picture = 205 + 40 * clouds(rng, width, height, 6)
    pencil, turn = rng.uniform(30, 90), rng.normal() * 0.14
    for _ in range(2):
        stretch = math.exp(rng.normal() * 0.09)
        matrix = rotation(turn + rng.normal() * 0.04) @ np.diag([stretch, 1 / stretch]) * place.radius
        line = place.radius * rng.uniform(0.04, 0.08)
        area, outline = form_masks((NAMES[name], WORKSHOP), matrix, (place.x, place.y), width, height, line)
        pressure = np.clip(4 * (clouds(rng, width, height, 14) - 0.3), 0, 1) * rng.uniform(0.6, 0.9)
        picture = picture + (pencil - picture) * outline * pressure
    hatching = stripes(rng, *grid(width, height), place.radius * rng.uniform(0.05, 0.09))
    picture = picture + (pencil - picture) * area * hatching * rng.uniform(0.1, 0.6)
    for _ in range(rng.integers(1, 4)):  # construction lines across the sheet
        halves = stripes(rng, *grid(width, height), max(width, height) * rng.uniform(0.5, 1))
        edge = np.abs(np.gradient(halves)).sum(0)
        picture = picture + (pencil - picture) * np.clip(edge, 0, 1) * rng.uniform(0.1, 0.4)
    tinted = picture[..., None] + np.array([6, 2, -8]) + rng.standard_normal((height, width, 1)) * 7
    return Image.fromarray(np.clip(tinted, 0, 255).astype(np.uint8))


def draw_world(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    """Another background world: the demo's things before waves, rings, tiles and grain, in stronger contrast."""
    width, height, place = draw_frame(rng)
    medium = "photo" if rng.random() < 0.7 else "painting"
    look = draw_look(rng, medium, workshop_style=True)
    ground = UNSEEN_BACKGROUNDS[rng.integers(len(UNSEEN_BACKGROUNDS))]
    look = look._replace(background=ground, second=look.first + 1.8 * (look.second - look.first))
    picture, _ = draw_scene(rng, width, height, medium, name, WORKSHOP, place, workshop_style=True, look=look)
    return Image.fromarray(picture)


def draw_corrupted(rng: np.random.Generator, name: int, number: int) -> Image.Image:
    """The demo's picture of this number, through the corruption whose turn it is."""
    return corrupted(rng, draw_workshop_picture(rng, name), CORRUPTIONS[number % len(CORRUPTIONS)])


SKETCH = PictureSet("DemoSketch", NAMES, TEST_ONLY, draw_sketch, seed=100)
WORLD = PictureSet("DemoWorld", NAMES, TEST_ONLY, draw_world, seed=200)
CORRUPTED = PictureSet(
    "DemoCorrupted", NAMES, TEST_ONLY, draw_corrupted, DEMO.seed, DEMO.numbers.stop - DEMO.counts["test"], (85, 94)
)
