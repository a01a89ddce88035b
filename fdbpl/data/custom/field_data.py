"""The field's data sets in their folders, for an inspection."""

import os
from pathlib import Path
from typing import NamedTuple

from fdbpl.data.custom.dataset import CustomData
from fdbpl.data.prepare.check import CONFIGS, build_config, dataset_class
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.errors import UserError, enumerated


class UncheckedItem(NamedTuple):
    """Fields of Dassl's items, without its check that the file exists."""

    impath: str
    label: int
    classname: str


def find_field_data(path: Path) -> tuple[str, Path] | None:
    """Return the name in configs/datasets and the data root of a data set's folder; None if `path` is another folder.

    Raises:
        UserError: `path` is the folder above several data sets.
    """
    below = []
    for name, kind in _kinds().items():
        mark = kind.split_file or kind.image_dir
        if Path(*path.parts[-len(Path(kind.dataset_dir).parts) :]) == Path(kind.dataset_dir) and (path / mark).exists():
            return name, Path(*path.parts[: -len(Path(kind.dataset_dir).parts)])
        if (path / kind.dataset_dir / mark).exists():
            below.append(kind.dataset_dir)
    if below:
        raise UserError(f"{path} holds the data sets {enumerated(sorted(set(below)))}; give the folder of one of them")
    return None


def _kinds() -> dict[str, type[SplitDataset]]:
    """Return {name in configs/datasets: class} of the data sets that have their own folder."""
    kinds = {}
    for file in sorted(CONFIGS.glob("*.yaml")):
        kind = dataset_class(file.stem)
        if kind.dataset_dir and not kind.synthetic and (kind.split_file or kind.image_dir):
            kinds[file.stem] = kind
    return kinds


def read_field_data(name: str, root: Path) -> tuple[CustomData, list[str]]:
    """Build a data set of configs/datasets with all classes and images, without decoding them; with its class names."""
    kind = dataset_class(name)
    methods = {
        "check_images": lambda self, paths: None,
        "find_unreadable": lambda self, paths, cfg: None,
        "images_of": lambda self, rows: [UncheckedItem(os.path.join(self.images, row[0]), *row[1:]) for row in rows],
    }
    built = type(kind.__name__, (kind,), methods)(build_config(name, root))
    images = str(built.images)
    parts = {"train": [] if kind.test_only else built.train_x, "val": built.val, "test": built.test}
    rows = {
        part: [(os.path.relpath(item.impath, images), item.label, item.classname) for item in items or []]
        for part, items in parts.items()
    }
    data = CustomData(
        Path(built.folder),
        f"data set {name}",
        Path(images),
        name,
        built.template,
        rows,
        notices=[],
        guesses=[],
        skipped=[],
    )
    return data, built.all_classnames
