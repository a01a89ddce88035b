"""Checks for what may spoil the result of a run: few images, meaningless names, byte-identical images."""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from fdbpl.data.rows import Item
from fdbpl.errors import enumerated

MIN_FOR_HALVES = 4  # classes


@dataclass(frozen=True)
class ClassSummary:
    """A class: its half in the base-to-new protocol, its prompt, and its numbers of images."""

    name: str
    half: str
    prompt: str
    train: int
    val: int
    test: int


def class_warnings(classes: list[ClassSummary], shots: int) -> list[str]:
    """Return warnings of classes with few images, and of names that mean nothing to CLIP."""
    found = []
    few = [f"{one.name} {one.train}" for one in classes if one.train < shots]
    if few:
        found.append(f"{len(few)} classes have fewer than {shots} training images ({enumerated(few, 5)})")
    untested = [one.name for one in classes if not one.test]
    if untested:
        found.append(f"{len(untested)} classes have no test images ({enumerated(untested, 5)})")
    if len(classes) < MIN_FOR_HALVES:
        found.append(f"{len(classes)} classes are too few for base-to-new, which needs {MIN_FOR_HALVES}")
    numbers = [one.name for one in classes if re.fullmatch("n?[0-9 ]+", one.name)]  # also WordNet's, n01440764
    if numbers:
        found.append(
            f"{len(numbers)} class names are numbers ({enumerated(numbers, 5)}), which mean nothing to CLIP: give "
            "names with the key classes of dataset.yaml"
        )
    return found


def byte_identical(folder: str | os.PathLike, paths: list[str]) -> list[list[str]]:
    """Return groups of images with the same bytes; only files of equal sizes are read."""
    by_size: dict[int, list[str]] = {}
    for path in paths:
        by_size.setdefault(os.path.getsize(os.path.join(folder, path)), []).append(path)
    candidates = [path for same in by_size.values() if len(same) > 1 for path in same]

    def digest(path: str) -> bytes:
        with open(os.path.join(folder, path), "rb") as file:
            return hashlib.sha256(file.read()).digest()

    groups: dict[bytes, list[str]] = {}
    with ThreadPoolExecutor(8) as pool:
        for path, found in zip(candidates, pool.map(digest, candidates), strict=True):
            groups.setdefault(found, []).append(path)
    return [same for same in groups.values() if len(same) > 1]


def duplicate_warnings(groups: list[list[str]], rows: dict[str, list[Item]]) -> list[str]:
    """Return warnings of byte-identical images in several splits or classes."""
    split_of = {path: part for part, items in rows.items() for path, _, _ in items}
    class_of = {path: name for items in rows.values() for path, _, name in items}
    found = []
    kinds = (
        (split_of, "in several splits, so that a test may use training images"),
        (class_of, "in several classes"),
    )
    for value_of, what in kinds:
        mixed = [same for same in groups if len({value_of[path] for path in same}) > 1]
        if mixed:
            example = " = ".join(f"{path} ({value_of[path]})" for path in mixed[0][:3])
            found.append(f"byte-identical images {what}: {len(mixed)} groups, e.g. {example}")
    return found
