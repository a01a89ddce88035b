"""Synthetic data sets: JPEGs that depend only on (data set, draw, class, number), drawn on first use."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fdbpl.interruption import init_pool_worker
from fdbpl.io.atomic import read_json, write_bytes, write_json
from fdbpl.io.locks import file_lock

DRAWS = {"test": 11, "validation": 12}  # name -> seed; tune on validation, report on test
DRAWN = "drawn.json"  # marker in the folder of a complete data set
CLASS_SPLITS = (1, 2, 3, 4)  # orders of the classes; the first half of an order are the base classes


@dataclass(frozen=True)
class SyntheticDataset:
    """A data set of drawn images.

    Attributes:
        title: name of the data set in file names, e.g. "Demo".
        classes: class names.
        counts: images per class in train, val and test.
        draw: (generator, index of the class, number) -> RGB image. Picklable.
        seed: added to the seed of the draw; data sets with the same seed share their random streams.
        first: number of the first image of each class.
        quality: range of the JPEG quality.
        version: version of the drawing code; images of another version are drawn again.
    """

    title: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    draw: Callable[[np.random.Generator, int, int], Image.Image]
    seed: int
    first: int = 0
    quality: tuple[int, int] = (70, 94)
    version: int = 1

    def image(self, draw: str, name: str, number: int) -> bytes:
        """Draw one image and return its JPEG bytes."""
        index = self.classes.index(name)
        rng = np.random.default_rng([self.seed + DRAWS[draw], index, number])
        image = self.draw(rng, index, number)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(self.quality[0], self.quality[1] + 1)))
        return buffer.getvalue()

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + sum(self.counts.values()))

    def split(self, class_split: int) -> dict[str, list[tuple[str, int, str]]]:
        """Return rows (path below the images folder, label, class name) of each part, as in CoOp's split files."""
        order = [self.classes[k] for k in np.random.default_rng(class_split).permutation(len(self.classes))]
        rows, first = {}, self.first
        for part in ("train", "val", "test"):
            numbers = range(first, first + self.counts.get(part, 0))
            rows[part] = [(file_name(name, k), label, name) for label, name in enumerate(order) for k in numbers]
            first = numbers.stop
        return rows

    def split_file(self, class_split: int) -> str:
        return f"split_fdbpl_{self.title}_{class_split}.json"

    def draw_into(self, folder: Path, draw: str) -> None:
        """Draw all images into `folder`/images and write the split files next to them.

        It resumes an interrupted drawing and does nothing if the folder is complete. The marker is written last.

        Raises:
            SystemFailure: the folder cannot be written to.
        """
        if self.is_drawn(folder, draw):
            return
        with file_lock(folder / ".lock", f"Another process draws into {folder}: waiting for it"):
            if not self.is_drawn(folder, draw):
                self._draw_all(folder, draw)
                os.replace(folder / "drawing.json", folder / DRAWN)

    def is_drawn(self, folder: Path, draw: str) -> bool:
        """Return whether `folder` holds all images."""
        return self._is_described_by(folder / DRAWN, draw)

    def _is_described_by(self, marker: Path, draw: str) -> bool:
        if not marker.is_file():
            return False
        state = self._state(draw)
        older = {"pictures" if key == "images" else key: value for key, value in state.items()}  # old key
        return read_json(marker, "the marker of a synthetic data set") in (state, older)

    def _state(self, draw: str) -> dict:
        return {"draw": draw, "version": self.version, "images": len(self.numbers)}

    def _draw_all(self, folder: Path, draw: str) -> None:
        begun = folder / "drawing.json"
        fresh = not self._is_described_by(begun, draw)
        write_json(begun, self._state(draw))
        for class_split in CLASS_SPLITS:
            write_json(folder / self.split_file(class_split), self.split(class_split))
        with ProcessPoolExecutor(
            min(4, os.cpu_count() or 1), mp_context=get_context("spawn"), initializer=init_pool_worker
        ) as pool:
            jobs = pool.map(partial(self._draw_class, folder / "images", draw, fresh), self.classes)
            what = f"Drawing {self.title} ({draw})"
            try:
                for _ in tqdm(jobs, total=len(self.classes), desc=what, unit="class", disable=None):
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # do not wait for queued classes
                raise

    def _draw_class(self, images: Path, draw: str, fresh: bool, name: str) -> None:
        for number in self.numbers:
            file = images / file_name(name, number)
            if fresh or not file.is_file():
                write_bytes(file, self.image(draw, name, number))


def file_name(name: str, number: int) -> str:
    return f"{name}/{number:04d}.jpg"
