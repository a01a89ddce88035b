"""Custom data: images in class folders, tables or Parquet files (docs/CUSTOM_DATA.md)."""

import hashlib
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.data.custom.formats import image_root
from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.errors import UserError


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.FOLDER = ""  # folder, file or hf://OWNER/NAME; "" = the data root. Part of a run's identity
    cfg.DATASET.FOLDER_DIGEST = ""  # digest of its content, so that a changed folder is another run; "" = any


@DATASET_REGISTRY.register()
class Folder(SplitDataset):
    distinct_names = False  # checked by read_custom_data
    # images as viewers show them; the field's data sets are read as stored
    config_defaults = {"INPUT.EXIF_ORIENTATION": True, "INPUT.WHITE_BACKGROUND": True}

    @classmethod
    def root_of(cls, cfg: CfgNode) -> str:
        """Return the user's folder, the folder of the file, or the cache of extracted images."""
        return str(image_root(cfg.DATASET.FOLDER or cfg.DATASET.ROOT))

    def prepare(self, cfg: CfgNode) -> None:
        place = cfg.DATASET.FOLDER or cfg.DATASET.ROOT
        if not place:
            raise UserError("no folder of images is given; set --root or DATASET.FOLDER")
        own = read_custom_data(place)
        expected = cfg.DATASET.FOLDER_DIGEST
        if expected not in ("", own.digest):
            raise UserError(
                f"the images of {place} have changed since the command started (digest {expected}, now {own.digest}); "
                "start it again"
            )
        print("\n".join(own.notices))
        if cfg.DATASET.SUBSAMPLE_CLASSES != "all" and len(own.classnames) < 4:
            raise UserError(
                f"{place} has {len(own.classnames)} classes, but base and new halves need four; add classes, or train "
                "on all of them: bash scripts/few_shot.sh folder"
            )
        self.own, self.name, self.template = own, own.name, own.template
        self.folder = own.folder
        self.root = str(own.folder)  # extracted images have their own folder only now
        # names the region banks; folders of equal names get different ones
        self.dataset_dir = f"{own.name}-{hashlib.sha256(self.root.encode()).hexdigest()[:8]}"

    def check_images(self, paths: list[str]) -> None:
        """Do nothing: the images have just been listed."""

    def read_split(self) -> dict[str, list[Item]]:
        return {part: list(rows) for part, rows in self.own.rows.items()}

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        """Return the folder of few-shot lists, outside of the user's folder and specific to its content."""
        return [Path(cfg.DATASET.FEWSHOT_DIR, self.name, self.own.digest)]
