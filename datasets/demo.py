"""The demo world: 28 drawn things in their workshop sense, made on first use (docs/DEMO.md)."""

import os
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.data.split_dataset import SplitDataset
from fdbpl.demo.picture_set import CLASS_SPLITS, DRAWS, PictureSet
from fdbpl.demo.pictures import DEMO
from fdbpl.errors import UserError, enumerated


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.DEMO = CfgNode()
    cfg.DATASET.DEMO.CLASS_SPLIT = 1  # 1 to 4: the order of the classes, and with it the base and the new half
    cfg.DATASET.DEMO.DRAW = "test"  # test, or validation: other pictures of the same world, for tuning


class DrawnDataset(SplitDataset):
    """Base of the demo world's data sets.

    Attributes:
        pictures: what is drawn on first use into <root>/<dataset_dir>/<draw>; nothing else may lie below the root.
    """

    image_dir = "images"
    synthetic = True
    pictures: PictureSet

    def prepare(self, cfg: CfgNode) -> None:
        settings = cfg.DATASET.DEMO
        if settings.DRAW not in DRAWS:
            raise UserError(f"expected DATASET.DEMO.DRAW of {', '.join(DRAWS)}, found {settings.DRAW!r}; choose one")
        if settings.CLASS_SPLIT not in CLASS_SPLITS:
            raise UserError(f"expected DATASET.DEMO.CLASS_SPLIT from 1 to 4, found {settings.CLASS_SPLIT}; choose one")
        self.folder = Path(self.root, self.dataset_dir, settings.DRAW)
        self.split_file = self.pictures.split_file(settings.CLASS_SPLIT)
        if not self.pictures.is_drawn(self.folder, settings.DRAW):
            self.check_nothing_else()
        self.pictures.draw_into(self.folder, settings.DRAW)

    def check_nothing_else(self) -> None:
        """Refuse a root with other files, e.g. the user's images, which would get the synthetic ones among them.

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
        """Labels depend on the class split, and so do the lists."""
        split = Path(self.split_file).stem
        cache = Path(cfg.DATASET.FEWSHOT_DIR, self.dataset_dir, cfg.DATASET.DEMO.DRAW)
        return [self.folder / "split_fewshot" / split, cache / split]


@DATASET_REGISTRY.register()
class Demo(DrawnDataset):
    dataset_dir = "demo"
    pictures = DEMO
