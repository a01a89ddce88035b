"""Oxford Flowers 102 (Nilsback and Zisserman, 2008). The split's rows are not in the order of their labels."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."
    official = Sizes(classes=102, train=4093, val=1633, test=2463)
