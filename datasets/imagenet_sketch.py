"""ImageNet-Sketch (Wang et al., 2019): drawings of ImageNet's 1000 classes."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.imagenet_shift import ImageNetShift
from fdbpl.data.split_dataset import Sizes


@DATASET_REGISTRY.register()
class ImageNetSketch(ImageNetShift):
    dataset_dir = "imagenet-sketch"
    image_dir = "images"
    official = Sizes(classes=1000, train=0, val=0, test=50_889)
