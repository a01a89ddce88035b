"""ImageNet-A (Hendrycks et al., 2021): photographs of 200 classes that ResNets get wrong."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet_shift import ImageNetShift
from fdbpl.data.split_dataset import Sizes


@DATASET_REGISTRY.register()
class ImageNetA(ImageNetShift):
    dataset_dir = "imagenet-adversarial"
    image_dir = "imagenet-a"
    official = Sizes(classes=200, train=0, val=0, test=7500)
