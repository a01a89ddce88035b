"""Stanford Cars (Krause et al., 2013): 196 models. The split's paths start with cars_train/ or cars_test/."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    template = "a photo of a {}."
    official = Sizes(classes=196, train=6509, val=1635, test=8041)
