"""Check of an installed data set: build it as training does, and decode every image."""

import os
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path

from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.config import merge, read_yaml
from fdbpl.data.prepare.install import missing
from fdbpl.data.prepare.sources import SOURCES
from fdbpl.data.registry import extend_cfg
from fdbpl.data.split_dataset import Sizes, SplitDataset
from fdbpl.errors import UserError
from fdbpl.io.image_check import unreadable_images

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "datasets"


@dataclass(frozen=True)
class Report:
    """Result of a check: whether the data set exists, whether it can be used, and a description."""

    found: bool
    fine: bool
    line: str


def dataset_class(name: str) -> type[SplitDataset]:
    """Return the class of the data set that configs/datasets/<name>.yaml names."""
    extend_cfg(get_cfg_default())  # registers the data sets
    return DATASET_REGISTRY.get(read_yaml(str(CONFIGS / f"{name}.yaml"))["DATASET.NAME"])


def check(name: str, root: Path) -> Report:
    """Build the data set below `root` with all classes and all images, then decode every image."""
    dataset = dataset_class(name)
    folder = root / dataset.dataset_dir
    command = f"run: bash scripts/prepare_data.sh {name} --root {shlex.quote(str(root))}" if name in SOURCES else ""
    absent = absent_targets(name, root)
    if not folder.exists() or (absent and len(absent) == sum(len(part.targets) for part in SOURCES[name].parts)):
        return Report(False, False, f"not found below {root}")
    if absent:
        return Report(True, False, f"incomplete: {', '.join(absent)} missing in {folder}; {command}")
    images: list[str] = []
    problems = []
    try:
        built = _recording(dataset, images)(build_config(name, root))
        summary = summary_of(built.sizes, built.official, len(images))
    except UserError as error:
        if not images:
            again = f"; to download it again, delete it and {command}" if command and command not in str(error) else ""
            return Report(True, False, f"{error}{again}")
        summary = f"{len(images)} images listed"
        problems.append(str(error))
    if broken := broken_images(images, f"{name}: decoding"):
        problems.append(f"{len(broken)} broken, the first {broken[0][0]} ({broken[0][1]})")
    if not problems:
        return Report(True, True, f"{summary}; no listed image is missing or broken")
    remedy = "replace or remove the missing or broken images"
    if command:
        remedy = f"to download all images again, delete their folder in {folder} and {command}"
    return Report(True, False, "; ".join([summary, *problems, remedy]))


def absent_targets(name: str, root: Path) -> list[str]:
    """List the missing files and folders of an installation; [] for data sets that are not downloaded."""
    if name not in SOURCES:
        return []
    parts = [
        part for part in SOURCES[name].parts if not (part.copy and (root / part.copy).is_file())
    ]  # read there, too
    return [target for part in parts for target in missing(part, root / SOURCES[name].folder)]


def build_config(name: str, root: Path) -> CfgNode:
    """Build the configuration that data sets read, for all classes and all images."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    file = CONFIGS / f"{name}.yaml"
    values = read_yaml(str(file))  # keys of other sections may be those of trainers
    merge(cfg, {key: value for key, value in values.items() if key.startswith("DATASET.")}, str(file))
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), -1, "all"
    cfg.freeze()
    return cfg


def summary_of(sizes: Sizes, official: Sizes | None, images: int) -> str:
    """Return `100 classes, 2300 images (train 1600, val 200, test 500)`, and the published sizes if they differ."""
    text = f"{sizes.classes} classes, {images} images (train {sizes.train}, val {sizes.val}, test {sizes.test})"
    if official is None or official == sizes:
        return text
    differences = [f"{part} {count}" for part, count in official._asdict().items() if getattr(sizes, part) != count]
    return f"{text}, where the published data set has {', '.join(differences)}"


def broken_images(images: list[str], title: str) -> list[tuple[str, str]]:
    """Return the existing images that cannot be decoded, with the reasons, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF records and the like, which do not disturb training
        return list(unreadable_images("", filter(os.path.exists, images), title=title).items())


def _recording(dataset: type[SplitDataset], images: list[str]) -> type[SplitDataset]:
    """Derive a class that records its images before it checks that they exist."""

    class Recording(dataset):
        def check_images(self, paths: list[str]) -> None:
            images.extend(os.path.join(self.images, path) for path in paths)
            super().check_images(paths)

        def find_unreadable(self, paths: list[str], cfg: CfgNode) -> None:
            """Do nothing: `broken_images` decodes all images and shows its progress."""

    Recording.__name__, Recording.__module__ = dataset.__name__, dataset.__module__
    return Recording
