"""Describable Textures (Cimpoi et al., 2014): 47 words for textures."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."
    official = Sizes(classes=47, train=2820, val=1128, test=1692)
