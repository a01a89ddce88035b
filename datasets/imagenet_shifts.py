"""Test sets for domain generalization: ImageNet's classes under other distributions."""

from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import Sizes, SplitDataset
from fdbpl.data.synsets import class_folders, list_rows, read_classnames
from fdbpl.errors import UserError, quoted


class ImageNetShift(SplitDataset):
    """Synset folders, relabelled from 0 in sorted order: ImageNet-A and -R hold 200 of the 1000 classes."""

    template = "a photo of a {}."
    test_only = True
    distinct_names = False

    def read_split(self) -> dict[str, list[Item]]:
        return {"train": [], "val": [], "test": list_rows(self.images, self.folders(self.synset_names()))}

    def folders(self, names: dict[str, str]) -> list[tuple[str, str]]:
        """Return the folder and class name of each label."""
        return class_folders(self.images, names, self.remedy)

    def synset_names(self) -> dict[str, str]:
        """Read the data set's own classnames.txt, or ImageNet's if it has none.

        Raises:
            UserError: neither exists, or they differ: the prompts would have other class names than in training.
        """
        own, imagenet = self.folder / "classnames.txt", Path(self.root, "imagenet", "classnames.txt")
        names = {file: read_classnames(file, self.remedy) for file in (own, imagenet) if file.is_file()}
        if not names:
            raise UserError(f"ImageNet's class names are missing: neither {own} nor {imagenet} exists; {self.remedy}")
        if len(names) == 2:
            other = [synset for synset, name in names[own].items() if names[imagenet].get(synset, name) != name]
            if other:
                raise UserError(
                    f"{own} calls {other[0]} {quoted(names[own][other[0]])}, but {imagenet} calls it "
                    f"{quoted(names[imagenet][other[0]])}; delete the file that is wrong"
                )
        return next(iter(names.values()))

    def check_images(self, paths: list[str]) -> None:
        """Do nothing: the images have just been listed."""


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetShift):
    """New photographs of the 1000 classes (Recht et al., 2019), matched frequency."""

    config_name = "imagenetv2"
    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    official = Sizes(classes=1000, train=0, val=0, test=10_000)

    def folders(self, names: dict[str, str]) -> list[tuple[str, str]]:
        """Return folder and class name of each label; a folder's name is the position among the sorted synsets."""
        for label in range(len(names)):
            self.need(self.images / str(label), "a class folder of ImageNetV2")
        return [(str(label), names[synset]) for label, synset in enumerate(sorted(names))]


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetShift):
    """Sketches of the 1000 classes (Wang et al., 2019)."""

    config_name = "imagenet_sketch"
    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    official = Sizes(classes=1000, train=0, val=0, test=50_889)


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetShift):
    """Photographs of 200 classes that ResNets misclassify (Hendrycks et al., 2021)."""

    config_name = "imagenet_a"
    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    official = Sizes(classes=200, train=0, val=0, test=7500)


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetShift):
    """Renditions (paintings, toys, cartoons ...) of 200 classes (Hendrycks et al., 2021)."""

    config_name = "imagenet_r"
    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    official = Sizes(classes=200, train=0, val=0, test=30_000)
