"""A data set in CoOp's layout: a folder of images and a split file; few shots; base and new halves of its classes."""

import os
from collections import Counter
from pathlib import Path

from dassl.data.datasets import DatasetBase, Datum
from yacs.config import CfgNode

from datasets.few_shot import few_shot_lists
from fdbpl.atomic import read_json
from fdbpl.errors import UserError

SUBSAMPLES = ("all", "base", "new")
Item = tuple[str, int, str]  # path relative to the image folder, label, class name: a row of CoOp's split files


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.SUBSAMPLE_CLASSES = "all"  # all, base (first half of the classes) or new (the rest)
    cfg.DATASET.CACHE = "output/split_fewshot"  # few-shot lists of data sets whose own folder is read-only
    cfg.DATASET.ALLOW_PICKLE = False  # read CoOp's pickled few-shot lists, with a reader that knows nothing but them


class SplitDataset(DatasetBase):
    """Base of the data sets; a subclass declares the attributes below and registers itself.

    Attributes:
        dataset_dir: folder below the data root.
        image_dir: folder below dataset_dir that the split file's paths start from.
        split_file: CoOp's `split_zhou_*.json` below dataset_dir.
        template: prompt with {} for the class name.
        name: of this data set in results; "" = its file in configs/datasets.
        root: absolute data root.
        all_classnames: class names of all labels, in label order, whatever the half in use.
        protocol: which images and class names training sees.
    """

    dataset_dir = ""
    image_dir = ""
    split_file = ""
    template = "a photo of a {}."
    name = ""

    def __init__(self, cfg: CfgNode):
        self.root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.folder = Path(self.root, self.dataset_dir)
        self.prepare(cfg)
        splits = self.read_split()
        self.all_classnames = class_names(splits, self.split_path)
        if cfg.DATASET.NUM_SHOTS >= 1:
            splits["train"], splits["val"] = few_shot_lists(
                splits["train"], splits["val"], cfg.DATASET.NUM_SHOTS, cfg.SEED, self.few_shot_folders(cfg), cfg
            )
        subsample = cfg.DATASET.SUBSAMPLE_CLASSES
        splits = dict(zip(splits, subsample_classes(*splits.values(), subsample=subsample), strict=True))
        self.check_images([row[0] for rows in splits.values() for row in rows])
        train, val, test = (
            [Datum(str(self.images / path), label, classname=name) for path, label, name in splits[part]]
            for part in ("train", "val", "test")
        )
        super().__init__(train_x=train, val=val, test=test)
        self.protocol = {
            "subsample": subsample,
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "classnames": self.classnames,
            "template": self.template,
            "train_images": len(train),
            "test_images": len(test),
        }

    @property
    def images(self) -> Path:
        return self.folder / self.image_dir

    @property
    def split_path(self) -> Path:
        return self.folder / self.split_file

    def prepare(self, cfg: CfgNode) -> None:
        """Make or check what `read_split` reads.

        Raises:
            UserError: the data set is not there.
        """
        for path, what in (
            (self.root, "the data root (--root, DATA)"),
            (self.folder, f"the folder of {type(self).__name__}"),
            (self.images, f"the images of {type(self).__name__}"),
        ):
            if not Path(path).is_dir():
                raise UserError(f"expected {what} at {path}, found no folder; see CoOp's DATASETS.md for the layout")

    def read_split(self) -> dict[str, list[Item]]:
        """The rows of train, val and test.

        Raises:
            UserError: the split file is missing or not in CoOp's format.
        """
        content = read_json(self.split_path, f"the split file of {type(self).__name__}")
        try:
            splits = {
                part: [(str(path), int(label), str(name)) for path, label, name in content[part]]
                for part in ("train", "val", "test")
            }
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"expected lists train, val and test of [path, label, class name] in {self.split_path}, "
                f"found something else ({type(error).__name__}: {error}); fetch the split file again"
            ) from error
        for part in ("train", "test"):
            if not splits[part]:
                raise UserError(
                    f"expected images in {part} of {self.split_path}, found none; fetch the split file again"
                )
        for rows in splits.values():
            for path, _, _ in rows:
                if os.path.isabs(path) or ".." in Path(path).parts:
                    raise UserError(
                        f"expected paths below {self.images} in {self.split_path}, found {path!r}; fetch it again"
                    )
        return splits

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        """Where few-shot lists are looked for and kept, the preferred place first."""
        return [self.folder / "split_fewshot", Path(cfg.DATASET.CACHE, self.dataset_dir)]

    def check_images(self, paths: list[str]) -> None:
        """Raise a UserError that counts the files that are missing and names the first of them."""
        present = {}
        for folder in {os.path.dirname(path) for path in paths}:
            try:
                present[folder] = {entry.name for entry in os.scandir(self.images / folder) if entry.is_file()}
            except OSError:
                present[folder] = set()
        missing = [path for path in paths if os.path.basename(path) not in present[os.path.dirname(path)]]
        if missing:
            shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            raise UserError(
                f"expected {len(paths)} images below {self.images}, found {len(missing)} of them missing ({shown}); "
                f"complete the folder or fetch the split file that belongs to it"
            )


def class_names(splits: dict[str, list[Item]], source: Path) -> list[str]:
    """Name of each label 0 .. C-1.

    Raises:
        UserError: a label has two names, two labels share one, or labels or their training images are missing.
    """
    names: dict[int, set[str]] = {}
    for rows in splits.values():
        for _, label, name in rows:
            names.setdefault(label, set()).add(name)
    for label, found in names.items():
        if len(found) > 1:
            raise UserError(
                f"expected one class name for label {label} in {source}, found {', '.join(sorted(found))}; "
                "fetch the split file again"
            )
    if sorted(names) != list(range(len(names))):
        raise UserError(
            f"expected labels 0 to {max(names)} in {source}, found {len(names)} of them; fetch the split file again"
        )
    untrained = sorted(set(names) - {label for _, label, _ in splits["train"]})
    if untrained:
        raise UserError(
            f"expected training images of every class in {source}, found none of {', '.join(names[untrained[0]])} "
            f"({len(untrained)} such classes); fetch the split file again"
        )
    duplicates = [name for name, count in Counter(min(found) for found in names.values()).items() if count > 1]
    if duplicates:
        raise UserError(
            f"expected different class names in {source}, found {duplicates[0]!r} for two labels; mend the split file"
        )
    return [min(names[label]) for label in sorted(names)]


def subsample_classes(*sources: list[Item], subsample: str = "all") -> list[list[Item]]:
    """The rows of half of the classes, relabelled from 0: `base` is the first ceil(n/2) labels, `new` the rest.

    The labels are those of the first source, as in CoOp's datasets/oxford_pets.py.
    """
    if subsample not in SUBSAMPLES:
        raise UserError(f"expected DATASET.SUBSAMPLE_CLASSES of {', '.join(SUBSAMPLES)}, found {subsample!r}")
    if subsample == "all":
        return [list(source) for source in sources]
    labels = sorted({row[1] for row in sources[0]})
    half = (len(labels) + 1) // 2
    selected = labels[:half] if subsample == "base" else labels[half:]
    if not selected:
        raise UserError(f"expected at least two classes for {subsample!r}, found {len(labels)}; use all")
    relabel = {old: new for new, old in enumerate(selected)}
    return [[(path, relabel[label], name) for path, label, name in rows if label in relabel] for rows in sources]
