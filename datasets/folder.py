"""Pictures of a user's own (docs/CUSTOM_DATA.md)."""

import hashlib
import os
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.data.image_folder.image_folder import read_own_pictures
from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.errors import UserError


def extend_cfg(cfg: CfgNode) -> None:
    cfg.DATASET.FOLDER = ""  # folder or CSV of own pictures; "" = the data root. Part of a run's identity
    cfg.DATASET.FOLDER_DIGEST = ""  # of what is in it, so that a changed folder is another run; "" = whatever is there


@DATASET_REGISTRY.register()
class Folder(SplitDataset):
    distinct_names = False  # read_own_pictures has compared them

    @classmethod
    def root_of(cls, cfg: CfgNode) -> str:
        """The user's folder, or the folder of the CSV."""
        place = os.path.abspath(os.path.expanduser(cfg.DATASET.FOLDER or cfg.DATASET.ROOT))
        return os.path.dirname(place) if os.path.isfile(place) else place

    def prepare(self, cfg: CfgNode) -> None:
        place = cfg.DATASET.FOLDER or cfg.DATASET.ROOT
        if not place:
            raise UserError("expected a folder of pictures as --root or DATASET.FOLDER, found none; give one")
        own = read_own_pictures(place)
        expected = cfg.DATASET.FOLDER_DIGEST
        if expected not in ("", own.digest):
            raise UserError(
                f"expected the pictures of {place} with digest {expected}, found {own.digest}: they have changed; "
                "start the command again"
            )
        print("\n".join(own.notes))
        if cfg.DATASET.SUBSAMPLE_CLASSES != "all" and len(own.classnames) < 4:
            raise UserError(
                f"expected at least four classes in {place} for base and new halves of two, found "
                f"{len(own.classnames)}; add classes, or learn on all of them: bash scripts/few_shot.sh folder"
            )
        self.own, self.name, self.template = own, own.name, own.template
        self.folder = own.folder
        # names the region banks; two folders of one name have two
        self.dataset_dir = f"{own.name}-{hashlib.sha256(self.root.encode()).hexdigest()[:8]}"

    def check_images(self, paths: list[str]) -> None:
        """They have just been listed."""

    def read_split(self) -> dict[str, list[Item]]:
        return {part: list(rows) for part, rows in self.own.rows.items()}

    def few_shot_folders(self, cfg: CfgNode) -> list[Path]:
        """Never among the user's pictures; other pictures, other lists."""
        return [Path(cfg.DATASET.FEWSHOT_DIR, self.name, self.own.digest)]
