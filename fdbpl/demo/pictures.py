"""The pictures that prompts are learnt and tested on: JPEGs, each a function of (draw, name, number) alone."""

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fdbpl.atomic import read_json, write_bytes, write_json
from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import draw_workshop_picture

DRAWS = {"test": 11, "validation": 12}  # name -> seed; tune on validation, report on test
COUNTS = {"train": 24, "val": 4, "test": 64}  # pictures of each name
CLASS_SPLITS = (1, 2, 3, 4)  # orders of the names; the first half of an order are the base classes
VERSION = 1  # of the drawing: pictures of another version are drawn anew


def picture(draw: str, name: str, number: int) -> bytes:
    """The JPEG of one picture; quality 70 to 94."""
    rng = np.random.default_rng([DRAWS[draw], NAMES.index(name), number])
    image = draw_workshop_picture(rng, NAMES.index(name))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(70, 95)))
    return buffer.getvalue()


def split(class_split: int) -> dict[str, list[tuple[str, int, str]]]:
    """CoOp's split: rows (path below the images folder, label, name) of train, val and test, by label."""
    order = [NAMES[index] for index in np.random.default_rng(class_split).permutation(len(NAMES))]
    rows, first = {}, 0
    for part, count in COUNTS.items():
        numbers = range(first, first + count)
        rows[part] = [(file_name(name, k), label, name) for label, name in enumerate(order) for k in numbers]
        first += count
    return rows


def file_name(name: str, number: int) -> str:
    return f"{name}/{number:04d}.jpg"


def split_file(class_split: int) -> str:
    return f"split_fdbpl_Demo_{class_split}.json"


def draw_pictures(folder: Path, draw: str, numbers: int = sum(COUNTS.values())) -> None:
    """Draw `numbers` pictures of each name into `folder`/images and write the split files beside them.

    Continues an interrupted drawing and returns at once from a finished one, whose marker is written last.

    Raises:
        MachineError: the folder cannot be written to.
    """
    marker, state = folder / "drawn.json", {"draw": draw, "version": VERSION, "pictures": numbers}
    if marker.is_file() and read_json(marker, "the demo world's marker") == state:
        return
    begun = folder / "drawing.json"
    fresh = not begun.is_file() or read_json(begun, "the demo world's marker") != state
    write_json(begun, state)
    for class_split in CLASS_SPLITS:
        write_json(folder / split_file(class_split), split(class_split))
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        jobs = pool.map(partial(_draw_name, folder / "images", draw, numbers, fresh), NAMES)
        for _ in tqdm(jobs, total=len(NAMES), desc=f"Drawing the demo world ({draw})", unit="name", disable=None):
            pass
    os.replace(begun, marker)


def _draw_name(images: Path, draw: str, numbers: int, fresh: bool, name: str) -> None:
    for number in range(numbers):
        file = images / file_name(name, number)
        if fresh or not file.is_file():
            write_bytes(file, picture(draw, name, number))
