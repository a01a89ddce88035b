"""Few-shot lists: drawn as CoOp draws them, saved as JSON so that every method trains on the same images."""

import os
import random
from collections import Counter, defaultdict
from pathlib import Path

from fdbpl.data.rows import Item, check_unique, digest, read_rows
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import read_json, write_json

DRAW_AGAIN = "delete that file to draw the images again"


def few_shot_lists(
    train: list[Item], val: list[Item], shots: int, seed: int, folders: list[Path]
) -> tuple[list[Item], list[Item]]:
    """Draw `shots` training and min(shots, 4) validation images of each class, or read the list of an earlier draw.

    A list stores the digest of the split that it was drawn from; a list of another split is drawn again. A draw without
    a seed (seed < 0) is neither saved nor read.

    Args:
        folders: where lists are searched; a new list is saved in the first one that is writable.
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
    generator = random.Random(seed)
    few = draw(generator, train, shots), draw(generator, val, min(shots, 4))
    for folder in folders:
        if is_writable(folder):
            write_json(folder / name, {"split": split, "train": few[0], "val": few[1]})
            if folder != folders[0]:
                print(f"Few-shot list saved in {folder / name}: {folders[0].parent} is read-only")
            break
    return few


def is_writable(folder: Path) -> bool:
    """Return whether `folder` can be created or written to. A read-only mode counts even where root could write."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return os.access(existing, os.W_OK) and bool(existing.stat().st_mode & 0o222)


def draw(generator: random.Random, rows: list[Item], shots: int) -> list[Item]:
    """Draw `shots` random rows of each label (all of them if there are fewer), labels in order of appearance.

    Dassl's `DatasetBase.generate_fewshot_dataset` draws the same rows under the same state of Python's generator.
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
    """Read the rows of a list, each of which must be in the split. None if the list was drawn from another split.

    Lists of older versions and of other tools do not record their split; they are read without this check.

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
                f"{file} lists {drawn[label, name]} training images of {name}, although the split has {count} for "
                f"{shots} shots: the list belongs to another split; {DRAW_AGAIN}"
            )
    return few


def check_rows(
    file: Path, rows: dict[str, list[Item]], train: list[Item], val: list[Item], shots: int
) -> tuple[list[Item], list[Item]]:
    """Return the rows of train and val after checking that `draw` can have drawn them."""
    check_unique(rows, file, DRAW_AGAIN)
    for part, whole, most in (("train", train, shots), ("val", val, min(shots, 4))):
        strangers = set(rows[part]).difference(whole)
        if strangers:
            raise UserError(f"{file} lists {quoted(min(strangers)[0])}, which is not in the split; {DRAW_AGAIN}")
        label, count = max(Counter(row[1] for row in rows[part]).items(), key=lambda pair: pair[1], default=(0, 0))
        if count > most:
            raise UserError(
                f"{part} of {file} lists {count} images of label {label}, more than the {most} of a draw; {DRAW_AGAIN}"
            )
    absent = dict(row[1:] for row in train)
    for _, label, _ in rows["train"]:
        absent.pop(label, None)
    if absent:
        raise UserError(f"{file} lists no training images of {min(absent.values())}; {DRAW_AGAIN}")
    return rows["train"], rows["val"]
