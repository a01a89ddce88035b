"""EuroSAT (Helber et al., 2019): ten kinds of land from a satellite, under the names that CoOp gives them."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    template = "a centered satellite photo of {}."
    official = Sizes(classes=10, train=13_500, val=5400, test=8100)
