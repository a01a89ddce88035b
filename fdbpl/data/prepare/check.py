"""Reading a data set as training would, and every image of it: what is there, what is missing, what is broken."""

import os
import shlex
import warnings
from dataclasses import dataclass
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.config import merge, read_yaml
from fdbpl.data.prepare.install import missing
from fdbpl.data.prepare.recipes import RECIPES, Recipe
from fdbpl.data.split_dataset import Sizes, SplitDataset
from fdbpl.engine.registry import default_config
from fdbpl.errors import UserError
from fdbpl.io.image_check import unreadable_images

CONFIGS = Path(__file__).resolve().parents[3] / "configs" / "datasets"


@dataclass(frozen=True)
class Report:
    """What was found: nothing, something that can be used, or something that cannot; a line says what."""

    found: bool
    fine: bool
    line: str


def dataset_class(name: str) -> type[SplitDataset]:
    """The class of the data set that configs/datasets/<name>.yaml names."""
    default_config()
    return DATASET_REGISTRY.get(read_yaml(str(CONFIGS / f"{name}.yaml"))["DATASET.NAME"])


def check(name: str, root: Path) -> Report:
    """Build the data set `name` below `root` with all classes and all images, then decode every image."""
    dataset = dataset_class(name)
    command = f"bash scripts/prepare_data.sh {name} --root {shlex.quote(str(root))}"
    report = _unfinished(RECIPES[name], root, command) if name in RECIPES else None
    if report is None and not (root / dataset.dataset_dir).exists():
        report = Report(False, False, f"not found below {root}")
    if report is not None:
        return report
    images: list[str] = []
    problems = []
    try:
        built = _recording(dataset, images)(build_config(name, root))
        summary = summary_of(built.sizes, built.official, len(images))
    except UserError as error:
        if not images:
            fetch = f"; to fetch it again delete it, then run: {command}"
            return Report(True, False, f"{error}{fetch if name in RECIPES and command not in str(error) else ''}")
        summary = f"{len(images)} images listed"
        problems.append(str(error))
    broken = broken_images(images, f"{name}: decoding")
    if broken:
        problems.append(f"{len(broken)} broken, the first {broken[0][0]} ({broken[0][1]})")
    if problems:
        again = "replace or remove the images that are missing or broken"
        if name in RECIPES:
            again = (
                f"to fetch all images again delete their folder in {root / dataset.dataset_dir}, then run: {command}"
            )
        return Report(True, False, "; ".join([summary, *problems, again]))
    return Report(True, True, f"{summary}; no listed image is missing or broken")


def _unfinished(recipe: Recipe, root: Path, command: str) -> Report | None:
    """A report of the files that the recipe has not brought; None if they are all there."""
    folder = root / recipe.folder
    lacking = [target for part in recipe.parts for target in missing(part, folder)]
    if len(lacking) == sum(len(part.targets) for part in recipe.parts):
        return Report(False, False, f"not found below {root}")
    if lacking := [target for target in lacking if not _elsewhere(target, recipe, root)]:
        return Report(True, False, f"incomplete: {', '.join(lacking)} missing in {folder}; run: {command}")
    return None


def _elsewhere(target: str, recipe: Recipe, root: Path) -> bool:
    """Whether a file that is missing lies where the data set reads it as well: ImageNet's class names."""
    return any(target in part.targets and part.copy and (root / part.copy).is_file() for part in recipe.parts)


def build_config(name: str, root: Path) -> CfgNode:
    """train.py's configuration as far as data sets read it, for all classes and all images."""
    cfg = default_config()
    file = CONFIGS / f"{name}.yaml"
    merge(cfg, read_yaml(str(file)), str(file))
    cfg.DATASET.ROOT, cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES = str(root), -1, "all"
    cfg.freeze()
    return cfg


def summary_of(sizes: Sizes, official: Sizes | None, images: int) -> str:
    """`100 classes, 2300 images (train 1600, val 200, test 500)`, and the published sizes if they differ."""
    text = f"{sizes.classes} classes, {images} images (train {sizes.train}, val {sizes.val}, test {sizes.test})"
    if official is None:
        return text
    differ = [f"{what} {count}" for what, count in official._asdict().items() if getattr(sizes, what) != count]
    return f"{text}, where the published data set has {', '.join(differ)}" if differ else text


def broken_images(images: list[str], title: str) -> list[tuple[str, str]]:
    """The images that are there and cannot be decoded, with the reason, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd EXIF records and the like, which training does not mind
        return list(unreadable_images("", filter(os.path.exists, images), title=title).items())


def _recording(dataset: type[SplitDataset], images: list[str]) -> type[SplitDataset]:
    """The class, noting the images it asks for before it looks whether they are there."""

    class Recording(dataset):
        def check_images(self, paths: list[str]) -> None:
            images.extend(os.path.join(self.images, path) for path in paths)
            super().check_images(paths)

        def find_unreadable(self, paths: list[str], cfg: CfgNode) -> None:
            """`broken_images` does, and shows how far it is."""

    Recording.__name__, Recording.__module__ = dataset.__name__, dataset.__module__
    return Recording
