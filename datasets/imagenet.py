"""ImageNet (Deng et al., 2009): shots from the training folders, tests on the validation folders."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import Sizes, SplitDataset
from fdbpl.data.synsets import class_folders, list_rows, read_classnames
from fdbpl.errors import UserError


@DATASET_REGISTRY.register()
class ImageNet(SplitDataset):
    """The folders are listed in sorted order; CoOp's `preprocessed.pkl` is not read.

    The test images are those of val/, as everywhere in the field, so there are no validation images for choosing a
    model.
    """

    config_name = "imagenet"
    dataset_dir = "imagenet"
    image_dir = "images"
    template = "a photo of a {}."
    official = Sizes(classes=1000, train=1_281_167, val=0, test=50_000)
    distinct_names = False  # in CLIP's list two synsets are called sunglasses, and two missile

    def read_split(self) -> dict[str, list[Item]]:
        """List the images; labels are the positions of the sorted training folders.

        Raises:
            UserError: a folder or classnames.txt is missing, or they do not match.
        """
        names = read_classnames(self.need(self.folder / "classnames.txt", "the list of class names"), self.remedy)
        folders = {}
        for part in ("train", "val"):
            folder = self.need(self.images / part, f"the {part} folder of ImageNet")
            folders[part] = class_folders(folder, names, self.remedy)
        unmatched = sorted(set(folders["train"]) ^ set(folders["val"]))
        if unmatched:
            raise UserError(
                f"train and val of {self.images} have different classes: {unmatched[0][0]} is in one of them only "
                f"({len(unmatched)} such folders); {self.remedy}"
            )
        return {
            "train": list_rows(self.images, [(f"train/{folder}", name) for folder, name in folders["train"]]),
            "val": [],
            "test": list_rows(self.images, [(f"val/{folder}", name) for folder, name in folders["val"]]),
        }

    def check_images(self, paths: list[str]) -> None:
        """Do nothing: the images have just been listed."""
