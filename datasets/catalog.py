"""The field's data sets with a split file of CoOp's: nine of eleven (see also imagenet.py and fgvc_aircraft.py).

Folders, split files and templates are those of CoOp; `official` are the sizes of the split files.
"""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Sizes, SplitDataset


@DATASET_REGISTRY.register()
class Caltech101(SplitDataset):
    """Objects (Fei-Fei et al., 2004), without the background class and one of the two face classes."""

    config_name = "caltech101"
    dataset_dir = "caltech-101"
    image_dir = "101_ObjectCategories"
    split_file = "split_zhou_Caltech101.json"
    template = "a photo of a {}."
    official = Sizes(classes=100, train=4128, val=1649, test=2465)


@DATASET_REGISTRY.register()
class OxfordPets(SplitDataset):
    """Breeds of cats and dogs (Parkhi et al., 2012)."""

    config_name = "oxford_pets"
    dataset_dir = "oxford_pets"
    image_dir = "images"
    split_file = "split_zhou_OxfordPets.json"
    template = "a photo of a {}, a type of pet."
    official = Sizes(classes=37, train=2944, val=736, test=3669)


@DATASET_REGISTRY.register()
class StanfordCars(SplitDataset):
    """Car models (Krause et al., 2013). The paths of the split start with cars_train/ or cars_test/."""

    config_name = "stanford_cars"
    dataset_dir = "stanford_cars"
    split_file = "split_zhou_StanfordCars.json"
    template = "a photo of a {}."
    official = Sizes(classes=196, train=6509, val=1635, test=8041)


@DATASET_REGISTRY.register()
class OxfordFlowers(SplitDataset):
    """Flowers (Nilsback and Zisserman, 2008). The rows of the split are not in label order."""

    config_name = "oxford_flowers"
    dataset_dir = "oxford_flowers"
    image_dir = "jpg"
    split_file = "split_zhou_OxfordFlowers.json"
    template = "a photo of a {}, a type of flower."
    official = Sizes(classes=102, train=4093, val=1633, test=2463)


@DATASET_REGISTRY.register()
class Food101(SplitDataset):
    """Dishes (Bossard et al., 2014)."""

    config_name = "food101"
    dataset_dir = "food-101"
    image_dir = "images"
    split_file = "split_zhou_Food101.json"
    template = "a photo of {}, a type of food."
    official = Sizes(classes=101, train=50_500, val=20_200, test=30_300)


@DATASET_REGISTRY.register()
class SUN397(SplitDataset):
    """Scenes (Xiao et al., 2010)."""

    config_name = "sun397"
    dataset_dir = "sun397"
    image_dir = "SUN397"
    split_file = "split_zhou_SUN397.json"
    template = "a photo of a {}."
    official = Sizes(classes=397, train=15_880, val=3_970, test=19_850)


@DATASET_REGISTRY.register()
class DescribableTextures(SplitDataset):
    """Textures (DTD; Cimpoi et al., 2014)."""

    config_name = "dtd"
    dataset_dir = "dtd"
    image_dir = "images"
    split_file = "split_zhou_DescribableTextures.json"
    template = "{} texture."
    official = Sizes(classes=47, train=2820, val=1128, test=1692)


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    """Land use in satellite images (Helber et al., 2019), under CoOp's class names."""

    config_name = "eurosat"
    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    template = "a centered satellite photo of {}."
    official = Sizes(classes=10, train=13_500, val=5400, test=8100)


@DATASET_REGISTRY.register()
class UCF101(SplitDataset):
    """Human actions (Soomro et al., 2012): the middle frame of each video."""

    config_name = "ucf101"
    dataset_dir = "ucf101"
    image_dir = "UCF-101-midframes"
    split_file = "split_zhou_UCF101.json"
    template = "a photo of a person doing {}."
    official = Sizes(classes=101, train=7639, val=1898, test=3783)
