"""A few images of each class: drawn as CoOp draws them, kept as JSON so that every method sees the same ones."""

import os
import pickle
import random
from collections import defaultdict
from pathlib import Path

from yacs.config import CfgNode

from fdbpl.atomic import read_json, write_json
from fdbpl.errors import UserError

Item = tuple[str, int, str]


def few_shot_lists(
    train: list[Item], val: list[Item], shots: int, seed: int, folders: list[Path], cfg: CfgNode
) -> tuple[list[Item], list[Item]]:
    """`shots` training and min(shots, 4) validation images of each class, drawn once and then read again.

    Args:
        folders: where the list may lie; a new one goes to the first that can be written to.
    """
    name = f"shot_{shots}-seed_{seed}.json"
    for folder in folders:
        if (folder / name).is_file():
            return read_few_shot(folder / name, train, val)
        pickled = (folder / name).with_suffix(".pkl")
        if pickled.is_file():
            if cfg.DATASET.ALLOW_PICKLE:
                print(f"Loading CoOp's few-shot list {pickled}")
                return read_pickled(pickled, train, val)
            print(f"Not reading CoOp's few-shot list {pickled} (DATASET.ALLOW_PICKLE True reads it): drawing anew")
    generator = random.Random(seed) if seed >= 0 else random.Random()
    few = draw(generator, train, shots), draw(generator, val, min(shots, 4))
    for folder in folders:
        if writable(folder):
            write_json(folder / name, {"train": few[0], "val": few[1]})
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


def read_few_shot(file: Path, train: list[Item], val: list[Item]) -> tuple[list[Item], list[Item]]:
    """The rows in `file`; each must be one of the split's.

    Raises:
        UserError: the file is broken or belongs to another split.
    """
    content = read_json(file, "a few-shot list")
    try:
        lists = [
            [(str(path), int(label), str(name)) for path, label, name in content[part]] for part in ("train", "val")
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"expected lists train and val of [path, label, class name] in {file}; delete it") from error
    return check_rows(file, lists, train, val)


def check_rows(
    file: Path, lists: list[list[Item]], train: list[Item], val: list[Item]
) -> tuple[list[Item], list[Item]]:
    for rows, whole in zip(lists, (train, val), strict=True):
        strangers = set(rows).difference(whole)
        if strangers:
            raise UserError(
                f"expected images of this split in {file}, found {min(strangers)[0]!r}; "
                "delete that file to draw the images again"
            )
    absent = dict(row[1:] for row in train)
    for _, label, _ in lists[0]:
        absent.pop(label, None)
    if absent:
        raise UserError(
            f"expected training images of every class in {file}, found none of {min(absent.values())}; "
            "delete that file to draw the images again"
        )
    return lists[0], lists[1]


def read_pickled(file: Path, train: list[Item], val: list[Item]) -> tuple[list[Item], list[Item]]:
    """CoOp's pickled list, whose paths are absolute: matched to the split's rows by the end of the path."""
    try:
        with open(file, "rb") as handle:
            content = _ListReader(handle).load()
        lists = [
            _rows(content[part] if whole else [], whole)  # ImageNet's has no val
            for part, whole in (("train", train), ("val", val))
        ]
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(
            f"expected a few-shot list of CoOp in {file}, found something else ({error}); delete it"
        ) from error
    return check_rows(file, lists, train, val)


def _rows(data: list["_PlainDatum"], whole: list[Item]) -> list[Item]:
    """The rows of `whole` that items with absolute paths stand for: the longest end of a path that is a row's."""
    known = {row[0]: row for row in whole}
    rows = []
    for datum in data:
        path = datum.__dict__["_impath"].replace("\\", "/")
        parts = path.split("/")
        ends = ("/".join(parts[first:]) for first in range(1, len(parts)))
        row = next((known[end] for end in ends if end in known), None)
        if row is None:
            raise ValueError(f"{path} is not in the split")
        rows.append(row)
    return rows


class _PlainDatum:
    """What a pickled Datum is read into: attributes, no code."""


class _ListReader(pickle.Unpickler):
    """Knows Dassl's Datum and nothing else, so that no code of the file can run."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("dassl.data.datasets.base_dataset", "Datum"):
            return _PlainDatum
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")
