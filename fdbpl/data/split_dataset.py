"""A data set in CoOp's layout: a folder of images and a split file; few shots; base and new halves of its classes."""

import os
import shlex
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from dassl.data.datasets import DatasetBase, Datum
from yacs.config import CfgNode

from fdbpl.data.classes import class_names, subsample_classes
from fdbpl.data.few_shot import few_shot_lists
from fdbpl.data.rows import Item, digest, read_rows, refuse_repeated
from fdbpl.data.unreadable import unreadable_of, without
from fdbpl.errors import UserError, enumerated
from fdbpl.io.atomic import read_json


class Sizes(NamedTuple):
    """How many classes and images a data set has, all classes and all shots.

    A data set for tests only has 0 training images; one without validation images has 0 of those.
    """

    classes: int
    train: int
    val: int
    test: int


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half of the classes) or new (the rest)
    # few-shot lists of data sets whose own folder is read-only; which images have been decoded once to check them
    cfg.DATASET.FEWSHOT_DIR = "output/split_fewshot"
    cfg.DATASET.SKIP_UNREADABLE = False  # True: leave out images that cannot be decoded; False: stop and name them all
    cfg.DATASET.ALLOW_PICKLE = False  # read CoOp's pickled few-shot lists, with a reader that knows nothing but them


class SplitDataset(DatasetBase):
    """Base of the data sets; a subclass declares the attributes below and registers itself.

    A data set without a split file overrides `read_split`.

    Attributes:
        dataset_dir: folder below the data root.
        image_dir: folder below dataset_dir that the split's paths start from.
        split_file: CoOp's `split_zhou_*.json` below dataset_dir.
        template: prompt with {} for the class name.
        official: sizes of the published data set; others are taken as they are. None = nobody published it.
        test_only: True: test images only. No shots are drawn, and trainers refuse to train on it.
        synthetic: True: the images are drawn on first use.
        distinct_names: False: two classes may share their name.
        name: of this data set in results; "" = its file in configs/datasets.
        root: absolute data root.
        all_classnames: class names of all labels, in label order, whatever the half in use.
        sizes: what is there, whatever the shots and the half in use; to be compared with `official`.
        protocol: which images and class names training sees.
        digests: SHA-256 of the class names and the rows of train, val and test, as they are used.
        left_out: {path below the images: reason} of what cannot be decoded; None where that is an error.
    """

    dataset_dir = ""
    image_dir = ""
    split_file = ""
    template = "a photo of a {}."
    official: Sizes | None = None
    test_only = False
    synthetic = False
    distinct_names = True
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
            raise UserError(f"expected DATASET.NUM_SHOTS of at least 1, or -1 for all, found {shots}; set another")
        if shots >= 1 and not self.test_only:
            splits["train"], splits["val"] = few_shot_lists(
                splits["train"], splits["val"], shots, cfg.SEED, self.few_shot_folders(cfg), cfg
            )
        paths = list({row[0]: None for rows in splits.values() for row in rows})
        self.check_images(paths)
        self.left_out = self.find_unreadable(paths, cfg)
        if self.left_out:
            splits = without(splits, self.left_out, self.folder)
        subsample = cfg.DATASET.SUBSAMPLE_CLASSES
        splits = dict(zip(splits, subsample_classes(*splits.values(), subsample=subsample), strict=True))
        if not splits["test"]:
            raise UserError(f"expected test images of {subsample} classes in {self.folder}, found none; {self.remedy}")
        self.print_untested(splits)
        val, test = self.images_of(splits["val"]), self.images_of(splits["test"])
        train = test if self.test_only else self.images_of(splits["train"])  # the very list: trainers know it by that
        super().__init__(train_x=train, val=val, test=test)
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
        """Say which classes have no test images: they are among the predictions, but no image of theirs is tested."""
        tested = {label for _, label, _ in splits["test"]}
        names = dict(row[1:] for row in splits["train"] if row[1] not in tested)
        if names and not self.test_only:
            print(f"Classes without test images in {self.folder}: {len(names)} ({enumerated(list(names.values()), 3)})")

    @classmethod
    def root_of(cls, cfg: CfgNode) -> str:
        """Absolute folder that the images' paths in a region bank start from; nothing is read."""
        return os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))

    @property
    def images(self) -> Path:
        return self.folder / self.image_dir

    @property
    def split_path(self) -> Path:
        return self.folder / self.split_file

    @property
    def remedy(self) -> str:
        """What to do where something is missing. A module is named as its file in configs/datasets."""
        if self.official is None:
            return "complete the folder"
        name = type(self).__module__.rpartition(".")[2]
        return f"run: bash scripts/prepare_data.sh {name} --root {shlex.quote(self.root)}"

    @property
    def split_remedy(self) -> str:
        """What to do about a mistake in the split file."""
        if not self.split_file:
            return self.remedy
        return "correct the split file" + ("" if self.official is None else f", or delete it and {self.remedy}")

    def need(self, path: Path, what: str) -> Path:
        """`path`, which has to be there.

        Raises:
            UserError: it is not.
        """
        if not path.exists():
            raise UserError(f"expected {what} at {path}, found nothing there; {self.remedy}")
        return path

    def prepare(self, cfg: CfgNode) -> None:
        """Make or check what `read_split` reads.

        Raises:
            UserError: the data set is not there.
        """
        root = self.need(Path(self.root), "the data root (--root, DATA)")
        if not root.is_dir():
            raise UserError(f"expected the data root (--root, DATA) at {root}, found a file; give the folder above")
        self.need(self.folder, f"the folder of {type(self).__name__}")
        self.need(self.images, f"the images of {type(self).__name__}")

    def read_split(self) -> dict[str, list[Item]]:
        """The rows of train, val and test.

        Raises:
            UserError: the split file is missing or not in CoOp's format.
        """
        what = f"the split file of {type(self).__name__}"
        content = read_json(self.need(self.split_path, what), what)
        remedy = self.split_remedy
        splits = read_rows(content, ("train", "val", "test"), self.split_path, remedy)
        refuse_repeated(splits, self.split_path, remedy)
        return splits

    def images_of(self, rows: list[Item]) -> list[Datum]:
        """Dassl's items of some rows."""
        images = str(self.images)
        return [Datum(os.path.join(images, path), label, classname=name) for path, label, name in rows]

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        """Where few-shot lists are looked for and kept, the preferred place first."""
        return [self.folder / "split_fewshot", Path(cfg.DATASET.FEWSHOT_DIR, self.dataset_dir)]

    def find_unreadable(self, paths: list[str], cfg: CfgNode) -> dict[str, str] | None:
        """As `unreadable_of` says; what has been read is remembered with the few-shot lists."""
        remembered = Path(cfg.DATASET.FEWSHOT_DIR, self.dataset_dir, "readable.safetensors")
        return unreadable_of(self.images, paths, cfg, remembered)

    def check_images(self, paths: list[str]) -> None:
        """Raise a UserError that counts the files that are missing and names the first of them."""
        present = {folder: files_in(self.images / folder) for folder in {os.path.dirname(path) for path in paths}}
        missing = [path for path in paths if os.path.basename(path) not in present[os.path.dirname(path)]]
        if missing:
            raise UserError(
                f"expected {len(paths)} images below {self.images}, found {len(missing)} of them missing "
                f"({enumerated(missing, 3)}); "
                f"fetch the split file that belongs to them, or {self.remedy}"
            )


def files_in(folder: Path) -> set[str]:
    """Names of the files in a folder; links that lead nowhere are none."""
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name for entry in entries if _is_file(entry)}
    return set()


def _is_file(entry: os.DirEntry) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False
