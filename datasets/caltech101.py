"""Caltech-101 (Fei-Fei et al., 2004) without the background class and one of the two face classes: 100 classes."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    template = "a photo of a {}."
    official = Sizes(classes=100, train=4128, val=1649, test=2465)
