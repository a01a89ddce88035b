"""The synthetic demo data sets, drawn on first use (docs/DEMO.md)."""

import os
from dataclasses import replace
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.demo import shifts
from fdbpl.demo.colours import COLOURS
from fdbpl.demo.dataset import DEMO
from fdbpl.demo.synthetic_dataset import CLASS_SPLITS, DRAWS, SyntheticDataset
from fdbpl.demo.two_senses import HARD
from fdbpl.errors import UserError, enumerated


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.DEMO = CfgNode()
    cfg.DATASET.DEMO.CLASS_SPLIT = 1  # 1 to 4: order of the classes, which decides the base and the new half
    cfg.DATASET.DEMO.SHARE = 1.0  # demo_hard: share of the images that show the sense of their half, from 0.0 to 1.0
    cfg.DATASET.DEMO.DRAW = "test"  # test, or validation: other images of the same distribution, for tuning


class DrawnDataset(SplitDataset):
    """Base class of the synthetic data sets.

    Attributes:
        source: the images, drawn on first use into <root>/<dataset_dir>/<draw>. The root must hold nothing else.
    """

    image_dir = "images"
    synthetic = True
    source: SyntheticDataset

    def prepare(self, cfg: CfgNode) -> None:
        settings = cfg.DATASET.DEMO
        if settings.DRAW not in DRAWS:
            raise UserError(f"DATASET.DEMO.DRAW is {settings.DRAW!r}; set one of {', '.join(DRAWS)}")
        if settings.CLASS_SPLIT not in CLASS_SPLITS:
            raise UserError(f"DATASET.DEMO.CLASS_SPLIT is {settings.CLASS_SPLIT}; set 1, 2, 3 or 4")
        self.check_settings(cfg)
        self.folder = Path(self.root, self.dataset_dir, settings.DRAW)
        self.split_file = self.source.split_file(settings.CLASS_SPLIT)
        if not self.source.is_drawn(self.folder, settings.DRAW):
            self.check_nothing_else()
        self.source.draw_into(self.folder, settings.DRAW)

    def check_settings(self, cfg: CfgNode) -> None:
        """Raise a UserError for settings of another synthetic data set."""
        if cfg.DATASET.DEMO.SHARE != 1:
            raise UserError(
                f"DATASET.DEMO.SHARE {cfg.DATASET.DEMO.SHARE} is a setting of demo_hard, but the data set is "
                f"{self.dataset_dir}; leave it out"
            )

    def check_nothing_else(self) -> None:
        """Check that the root holds no other files, such as the user's images, to which synthetic ones would be added.

        Raises:
            UserError: names some of these files.
        """
        synthetic = {dataset.dataset_dir for dataset in DrawnDataset.__subclasses__()}
        for folder, expected in ((self.root, synthetic), (os.path.join(self.root, self.dataset_dir), set(DRAWS))):
            names = os.listdir(folder) if os.path.isdir(folder) else []
            others = sorted(name for name in names if name not in expected and not name.startswith("."))
            if others:
                raise UserError(
                    f"the synthetic data set {self.dataset_dir} would be drawn into {folder}, which holds other files "
                    f"({enumerated(others, 3)}); give a folder of its own (SYNTHETIC for the scripts, --root for "
                    "train.py)"
                )

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        """Return the folders of few-shot lists, one for each class split, on which the labels depend."""
        split = Path(self.split_file).stem
        shared = Path(cfg.DATASET.FEWSHOT_DIR, self.dataset_dir, cfg.DATASET.DEMO.DRAW)
        return [self.folder / "split_fewshot" / split, shared / split]


@DATASET_REGISTRY.register()
class Demo(DrawnDataset):
    """28 synthetic classes."""

    dataset_dir = "demo"
    source = DEMO


@DATASET_REGISTRY.register()
class DemoColours(DrawnDataset):
    """The ten colours of the demo's objects: other classes than Demo's, to test on or to learn."""

    dataset_dir = "demo_colours"
    source = COLOURS


@DATASET_REGISTRY.register()
class DemoHard(DrawnDataset):
    """Demo's names, the base half in the workshop sense and the new half in the everyday sense."""

    dataset_dir = "demo_hard"
    source = HARD

    def check_settings(self, cfg: CfgNode) -> None:
        self.share, self.class_split = cfg.DATASET.DEMO.SHARE, cfg.DATASET.DEMO.CLASS_SPLIT
        if not 0 <= self.share <= 1:
            raise UserError(f"DATASET.DEMO.SHARE is {self.share}; set a number from 0.0 to 1.0")

    def read_split(self) -> dict[str, list[Item]]:
        """Return other rows of the same images if the share is below 1."""
        if self.share == 1:
            return super().read_split()
        return replace(HARD, share=self.share).split(self.class_split)

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        folders = super().few_shot_folders(cfg)
        return folders if self.share == 1 else [folder / f"share_{self.share:g}" for folder in folders]


@DATASET_REGISTRY.register()
class DemoSketch(DrawnDataset):
    """Demo's classes as sketches: a test set for domain generalization."""

    dataset_dir = "demo_sketch"
    source = shifts.SKETCH
    test_only = True


@DATASET_REGISTRY.register()
class DemoWorld(DrawnDataset):
    """Demo's objects on unseen backgrounds in stronger contrast: a test set for domain generalization."""

    dataset_dir = "demo_world"
    source = shifts.WORLD
    test_only = True


@DATASET_REGISTRY.register()
class DemoCorrupted(DrawnDataset):
    """Demo's images with corruptions: a test set for domain generalization."""

    dataset_dir = "demo_corrupted"
    source = shifts.CORRUPTED
    test_only = True
