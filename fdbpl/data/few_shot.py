"""A few images of each class: drawn as CoOp draws them, kept as JSON so that every method sees the same ones."""

import os
import random
from collections import Counter, defaultdict
from pathlib import Path

from yacs.config import CfgNode

from fdbpl.data.pickled_lists import read_pickled
from fdbpl.data.rows import Item, digest, read_rows, refuse_repeated
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import read_json, write_json

DRAW_AGAIN = "delete that file to draw the images again"


def few_shot_lists(
    train: list[Item], val: list[Item], shots: int, seed: int, folders: list[Path], cfg: CfgNode
) -> tuple[list[Item], list[Item]]:
    """`shots` training and min(shots, 4) validation images of each class, drawn once and then read again.

    A list holds the digest of the split that it was drawn from; one of another split is drawn again. A draw without a
    seed is neither kept nor read.

    Args:
        folders: where the list may lie; a new one goes to the first that can be written to.
    """
    if seed < 0:
        generator = random.Random()
        return draw(generator, train, shots), draw(generator, val, min(shots, 4))
    name, split = f"shot_{shots}-seed_{seed}.json", digest(train, val)
    for folder in folders:
        if (folder / name).is_file():
            few = read_few_shot(folder / name, train, val, shots, split)
            if few is not None:
                print(f"Few-shot list read from {folder / name}")
                return few
            print(f"Few-shot list not read from {folder / name}: it was drawn from another split")
            continue
        pickled = (folder / name).with_suffix(".pkl")
        if pickled.is_file():
            if cfg.DATASET.ALLOW_PICKLE:
                print(f"Loading CoOp's few-shot list {pickled}")
                return check_rows(pickled, read_pickled(pickled, train, val), train, val, shots)
            print(f"Not reading CoOp's few-shot list {pickled} (DATASET.ALLOW_PICKLE True reads it): drawing anew")
    generator = random.Random(seed)
    few = draw(generator, train, shots), draw(generator, val, min(shots, 4))
    for folder in folders:
        if writable(folder):
            write_json(folder / name, {"split": split, "train": few[0], "val": few[1]})
            if folder != folders[0]:
                print(f"Few-shot list kept in {folder / name}: {folders[0].parent} is read-only")
            break
    return few


def writable(folder: Path) -> bool:
    """Whether `folder` can be made or written to. One marked read-only is left alone even where root might write."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return os.access(existing, os.W_OK) and bool(existing.stat().st_mode & 0o222)


def draw(generator: random.Random, rows: list[Item], shots: int) -> list[Item]:
    """`shots` random rows of each label (all where there are fewer), labels in order of appearance.

    The same rows as Dassl's `DatasetBase.generate_fewshot_dataset` under the same state of Python's generator.
    """
    groups = defaultdict(list)
    for row in rows:
        groups[row[1]].append(row)
    return [
        row for group in groups.values() for row in (generator.sample(group, shots) if len(group) >= shots else group)
    ]


def read_few_shot(
    file: Path, train: list[Item], val: list[Item], shots: int, split: str
) -> tuple[list[Item], list[Item]] | None:
    """The rows in `file`; each must be one of the split's. None where the list was drawn from another split.

    Lists of older versions and of other tools do not say which split they were drawn from: they are read as they are.

    Raises:
        UserError: the file is broken or belongs to another split.
    """
    content = read_json(file, "a few-shot list")
    if isinstance(content, dict) and content.get("split", split) != split:
        return None
    few = check_rows(file, read_rows(content, ("train", "val"), file, DRAW_AGAIN), train, val, shots)
    drawn = Counter(row[1:] for row in few[0])
    for (label, name), count in Counter(row[1:] for row in train).items():
        if drawn[label, name] < min(count, shots):
            raise UserError(
                f"{file} holds {drawn[label, name]} training images of {name}, but the split has {count} for {shots} "
                f"shots: the list is of another split; {DRAW_AGAIN}"
            )
    return few


def check_rows(
    file: Path, rows: dict[str, list[Item]], train: list[Item], val: list[Item], shots: int
) -> tuple[list[Item], list[Item]]:
    """The rows of train and val, which must be such as `draw` draws."""
    refuse_repeated(rows, file, DRAW_AGAIN)
    for part, whole, most in (("train", train, shots), ("val", val, min(shots, 4))):
        strangers = set(rows[part]).difference(whole)
        if strangers:
            raise UserError(f"expected images of this split in {file}, found {quoted(min(strangers)[0])}; {DRAW_AGAIN}")
        label, count = max(Counter(row[1] for row in rows[part]).items(), key=lambda pair: pair[1], default=(0, 0))
        if count > most:
            raise UserError(
                f"expected {most} images of a class at most in {part} of {file}, found {count} of label {label}; "
                f"{DRAW_AGAIN}"
            )
    absent = dict(row[1:] for row in train)
    for _, label, _ in rows["train"]:
        absent.pop(label, None)
    if absent:
        raise UserError(
            f"expected training images of every class in {file}, found none of {min(absent.values())}; {DRAW_AGAIN}"
        )
    return rows["train"], rows["val"]
