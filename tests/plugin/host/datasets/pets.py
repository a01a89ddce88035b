import os

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum

NAMES = ["beagle", "birman", "boxer", "persian"]


@DATASET_REGISTRY.register()
class OxfordPets(DatasetBase):
    """A plain Dassl data set: no template, no root, no class list."""

    dataset_dir = "pets"

    def __init__(self, cfg):
        self.dataset_dir = os.path.join(os.path.abspath(cfg.DATASET.ROOT), self.dataset_dir)
        items = [Datum(os.path.join(self.dataset_dir, f"{name}_{number}.jpg"), label, classname=name)
                 for label, name in enumerate(NAMES) for number in range(3)]  # fmt: skip
        super().__init__(train_x=[item for item in items if "_2" not in item.impath],
                         test=[item for item in items if "_2" in item.impath])  # fmt: skip
