"""ImageNet-R (Hendrycks et al., 2021): paintings, toys, cartoons ... of 200 classes."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet_shift import ImageNetShift
from fdbpl.data.split_dataset import Sizes


@DATASET_REGISTRY.register()
class ImageNetR(ImageNetShift):
    dataset_dir = "imagenet-rendition"
    image_dir = "imagenet-r"
    official = Sizes(classes=200, train=0, val=0, test=30_000)
