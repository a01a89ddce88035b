"""Base class of the data sets: images and a split file in CoOp's layout, few shots, base and new classes."""

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from dassl.data.datasets import DatasetBase, Datum
from yacs.config import CfgNode

from fdbpl.data.classes import class_names, subsample_classes
from fdbpl.data.few_shot import few_shot_lists
from fdbpl.data.rows import Item, check_unique, digest, read_rows
from fdbpl.data.unreadable import find_unreadable, leave_out
from fdbpl.errors import UserError, enumerated
from fdbpl.io.atomic import read_json


class Sizes(NamedTuple):
    """Numbers of classes and images of a whole data set; 0 for a part that it does not have."""

    classes: int
    train: int
    val: int
    test: int


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half of the classes) or new (the rest)
    # few-shot lists of data sets whose own folder is read-only, and the record of images that were decoded before
    cfg.DATASET.FEWSHOT_DIR = "output/split_fewshot"
    cfg.DATASET.SKIP_UNREADABLE = False  # True: leave out images that cannot be decoded; False: stop and name them all


class SplitDataset(DatasetBase):
    """Base class of the data sets. A subclass sets the class attributes and registers itself with Dassl.

    A data set without a split file overrides `read_split`.

    Attributes:
        dataset_dir: folder below the data root.
        image_dir: folder below `dataset_dir` that the paths of the split start from.
        split_file: CoOp's `split_zhou_*.json` below `dataset_dir`.
        template: prompt with {} for the class name.
        official: sizes of the published data set, None if there is none. Other sizes are accepted.
        config_name: name for scripts/prepare_data.sh and of its file in configs/datasets; "" if it cannot be fetched.
        test_only: there are test images only; no shots are drawn, and trainers refuse to train on it.
        synthetic: the images are drawn on first use.
        distinct_names: two classes must have distinct names.
        config_defaults: {"A.B": value} of the configuration keys that have another default for this data set.
        name: name in results; "" = the name of the file in configs/datasets.
        root: absolute data root.
        all_classnames: class names of all labels in label order, whichever half is in use.
        sizes: actual sizes, independent of shots and half; to be compared with `official`.
        all_train: with REGIONS.ALL_IMAGES all training images of the classes in use, else those of the few shots.
        protocol: the images and class names that training uses.
        digests: SHA-256 of the class names and the rows of train, val and test in use.
        left_out: {path below the images: reason} of unreadable images; None if these are an error.
    """

    dataset_dir = ""
    image_dir = ""
    split_file = ""
    template = "a photo of a {}."
    official: Sizes | None = None
    config_name = ""
    test_only = False
    synthetic = False
    distinct_names = True
    config_defaults: Mapping[str, Any] = {}
    name = ""

    def __init__(self, cfg: CfgNode):
        self.root = self.root_of(cfg)
        self.folder = Path(self.root, self.dataset_dir)
        self.prepare(cfg)
        splits = self.read_split()
        train_images = len(splits["train"])
        if self.test_only:  # Dassl takes the class names from the training images
            splits["train"] = splits["test"]
        self.all_classnames = class_names(splits, self.split_path, self.split_remedy, self.distinct_names)
        self.sizes = Sizes(len(self.all_classnames), train_images, len(splits["val"]), len(splits["test"]))
        shots = cfg.DATASET.NUM_SHOTS
        if shots < -1 or shots == 0:
            raise UserError(f"DATASET.NUM_SHOTS is {shots}; set a number of at least 1, or -1 for all images")
        if shots >= 1 and not self.test_only:
            if cfg.get("REGIONS", {}).get("ALL_IMAGES"):
                splits["all_train"] = splits["train"]
            splits["train"], splits["val"] = few_shot_lists(
                splits["train"], splits["val"], shots, cfg.SEED, self.few_shot_folders(cfg)
            )
        paths = list({row[0]: None for rows in splits.values() for row in rows})
        self.check_images(paths)
        self.left_out = self.find_unreadable(paths, cfg)
        if self.left_out:
            splits = leave_out(splits, self.left_out, self.folder)
        subsample = cfg.DATASET.SUBSAMPLE_CLASSES
        splits = dict(zip(splits, subsample_classes(*splits.values(), subsample=subsample), strict=True))
        if not splits["test"]:
            raise UserError(f"{self.folder} has no test images of the {subsample} classes; {self.remedy}")
        self.print_untested(splits)
        val, test = self.images_of(splits["val"]), self.images_of(splits["test"])
        train = test if self.test_only else self.images_of(splits["train"])  # the same object: trainers compare by `is`
        super().__init__(train_x=train, val=val, test=test)
        self.all_train = self.images_of(splits["all_train"]) if "all_train" in splits else train
        self.digests = {part: digest(self.classnames, rows) for part, rows in splits.items()}
        self.protocol = {
            "subsample": subsample,
            "shots": shots,
            "seed": cfg.SEED,
            "classnames": self.classnames,
            "template": self.template,
            "train_images": 0 if self.test_only else len(train),
            "test_images": len(test),
        }

    def print_untested(self, splits: dict[str, list[Item]]) -> None:
        """Print the classes without test images: they can be predicted, but are never the right answer."""
        tested = {label for _, label, _ in splits["test"]}
        names = dict(row[1:] for row in splits["train"] if row[1] not in tested)
        if names and not self.test_only:
            print(f"Classes without test images in {self.folder}: {len(names)} ({enumerated(list(names.values()), 3)})")

    @classmethod
    def root_of(cls, cfg: CfgNode) -> str:
        """Return the absolute folder that the image paths in a region bank start from; nothing is read."""
        return os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))

    @property
    def images(self) -> Path:
        return self.folder / self.image_dir

    @property
    def split_path(self) -> Path:
        return self.folder / self.split_file

    @property
    def remedy(self) -> str:
        """Instruction for the user if something is missing."""
        if not self.config_name:
            return "complete the folder"
        return f"run: bash scripts/prepare_data.sh {self.config_name} --root {shlex.quote(self.root)}"

    @property
    def split_remedy(self) -> str:
        """Instruction for the user if the split file has a mistake."""
        if not self.split_file:
            return self.remedy
        return "correct the split file" + (f", or delete it and {self.remedy}" if self.config_name else "")

    def need(self, path: Path, what: str) -> Path:
        """Return `path`, which must exist.

        Raises:
            UserError: it does not.
        """
        if not path.exists():
            raise UserError(f"{what} is missing: there is no {path}; {self.remedy}")
        return path

    def prepare(self, cfg: CfgNode) -> None:
        """Create or check the files that `read_split` reads.

        Raises:
            UserError: the data set is missing.
        """
        root = self.need(Path(self.root), "the data root (--root, DATA)")
        if not root.is_dir():
            raise UserError(f"the data root (--root, DATA) {root} is a file; give the folder that holds the data sets")
        self.need(self.folder, f"the folder of {type(self).__name__}")
        self.need(self.images, f"the image folder of {type(self).__name__}")

    def read_split(self) -> dict[str, list[Item]]:
        """Return the rows of train, val and test.

        Raises:
            UserError: the split file is missing or not in CoOp's format.
        """
        what = f"the split file of {type(self).__name__}"
        content = read_json(self.need(self.split_path, what), what)
        remedy = self.split_remedy
        splits = read_rows(content, ("train", "val", "test"), self.split_path, remedy)
        check_unique(splits, self.split_path, remedy)
        return splits

    def images_of(self, rows: list[Item]) -> list[Datum]:
        """Convert rows to Dassl's items."""
        images = str(self.images)
        return [Datum(os.path.join(images, path), label, classname=name) for path, label, name in rows]

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        """Return the folders in which few-shot lists are searched and saved, the preferred one first."""
        return [self.folder / "split_fewshot", Path(cfg.DATASET.FEWSHOT_DIR, self.dataset_dir)]

    def find_unreadable(self, paths: list[str], cfg: CfgNode) -> dict[str, str] | None:
        """Call `unreadable.find_unreadable` with a cache next to the few-shot lists."""
        cache = Path(cfg.DATASET.FEWSHOT_DIR, self.dataset_dir, "readable.safetensors")
        return find_unreadable(self.images, paths, cfg, cache)

    def check_images(self, paths: list[str]) -> None:
        """Check that the files exist.

        Raises:
            UserError: counts the missing files and names the first of them.
        """
        present = {folder: files_in(self.images / folder) for folder in {os.path.dirname(path) for path in paths}}
        missing = [path for path in paths if os.path.basename(path) not in present[os.path.dirname(path)]]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(paths)} images are missing below {self.images} ({enumerated(missing, 3)}); "
                f"use the split file that belongs to these images, or {self.remedy}"
            )


def files_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder, without broken links."""
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if _is_file(entry)}
    return set()


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False
