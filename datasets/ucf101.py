"""UCF101 (Soomro et al., 2012): 101 actions, each video by its middle frame."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."
    official = Sizes(classes=101, train=7639, val=1898, test=3783)
