"""SUN397 (Xiao et al., 2010): 397 kinds of scenes."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    template = "a photo of a {}."
    official = Sizes(classes=397, train=15_880, val=3_970, test=19_850)
