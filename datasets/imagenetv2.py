"""ImageNetV2 (Recht et al., 2019), matched frequency: new photographs of ImageNet's 1000 classes."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet_shift import ImageNetShift
from fdbpl.data.split_dataset import Sizes


@DATASET_REGISTRY.register()
class ImageNetV2(ImageNetShift):
    dataset_dir = "imagenetv2"
    image_dir = "imagenetv2-matched-frequency-format-val"
    official = Sizes(classes=1000, train=0, val=0, test=10_000)

    def folders(self, names: dict[str, str]) -> list[tuple[str, str]]:
        """A folder is named by the label, which is the place among the sorted synsets."""
        for label in range(len(names)):
            self.need(self.images / str(label), "a folder for each class of ImageNetV2")
        return [(str(label), names[synset]) for label, synset in enumerate(sorted(names))]
