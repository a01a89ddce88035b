"""Oxford-IIIT Pets (Parkhi et al., 2012): 37 breeds of cats and dogs."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."
    official = Sizes(classes=37, train=2944, val=736, test=3669)
