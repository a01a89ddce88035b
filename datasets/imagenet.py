"""ImageNet (Deng et al., 2009): the training folders for few shots, the validation folders as the test set."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Item, Sizes, SplitDataset
from fdbpl.data.synsets import class_folders, list_rows, read_classnames
from fdbpl.errors import UserError


@DATASET_REGISTRY.register()
class ImageNet(SplitDataset):
    """No split file: the folders are listed, in sorted order. A `preprocessed.pkl` of CoOp's is not read.

    Test images are those of val/, as everywhere in the field; so there are no validation images to choose a model by.
    """

    dataset_dir = "imagenet"
    image_dir = "images"
    template = "a photo of a {}."
    official = Sizes(classes=1000, train=1_281_167, val=0, test=50_000)
    distinct_names = False  # CLIP's names: two synsets are sunglasses, two are missile

    def read_split(self) -> dict[str, list[Item]]:
        """Labels are the places of the training folders in sorted order.

        Raises:
            UserError: a folder or classnames.txt is missing, or they do not belong together.
        """
        names = read_classnames(self.need(self.folder / "classnames.txt", "the class names of ImageNet"), self.remedy)
        folders = {}
        for part in ("train", "val"):
            folder = self.need(self.images / part, "images of ImageNet")
            folders[part] = class_folders(folder, names, self.remedy)
        strangers = sorted(set(folders["train"]) ^ set(folders["val"]))
        if strangers:
            raise UserError(
                f"expected the same classes in train and val of {self.images}, found {strangers[0][0]} in one of them "
                f"({len(strangers)} such folders); {self.remedy}"
            )
        return {
            "train": list_rows(self.images, [(f"train/{folder}", name) for folder, name in folders["train"]]),
            "val": [],
            "test": list_rows(self.images, [(f"val/{folder}", name) for folder, name in folders["val"]]),
        }

    def check_images(self, paths: list[str]) -> None:
        """They have just been listed."""
