"""CoOp's published split files: classes, order of the labels, halves, sizes."""

import json
import os
import tarfile
from unittest import mock

import pytest

from datasets.catalog import UCF101, Caltech101, DescribableTextures, EuroSAT, OxfordFlowers, OxfordPets, StanfordCars

from .trees import below, config, write_split

# Image folder; classes; train, val, test; test images of base and new; 16 shots of base; first and last names of the
# base and the new half.
OFFICIAL = {
    Caltech101: (
        "caltech-101/101_ObjectCategories", 100, (4128, 1649, 2465), (1549, 916), 800,
        ("face", "helicopter", "ibis", "yin_yang"),
    ),
    DescribableTextures: (
        "dtd/images", 47, (2820, 1128, 1692), (864, 828), 384, ("banded", "marbled", "matted", "zigzagged"),
    ),
    EuroSAT: (
        "eurosat/2750", 10, (13500, 5400, 8100), (4200, 3900), 80,
        ("Annual Crop Land", "Industrial Buildings", "Pasture Land", "Sea or Lake"),
    ),
    OxfordFlowers: (
        "oxford_flowers/jpg", 102, (4093, 1633, 2463), (1053, 1410), 816,
        ("pink primrose", "petunia", "wild pansy", "blackberry lily"),
    ),
    OxfordPets: (
        "oxford_pets/images", 37, (2944, 736, 3669), (1881, 1788), 304,
        ("abyssinian", "keeshond", "leonberger", "yorkshire_terrier"),
    ),
    StanfordCars: (
        "stanford_cars", 196, (6509, 1635, 8041), (4002, 4039), 1568,
        ("2000 AM General Hummer SUV", "1998 Eagle Talon Hatchback", "2012 FIAT 500 Abarth",
         "2012 smart fortwo Convertible"),
    ),
    UCF101: (
        "ucf101/UCF-101-midframes", 101, (7639, 1898, 3783), (1934, 1849), 816,
        ("Apply_Eye_Makeup", "Long_Jump", "Lunges", "Yo_Yo"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=OFFICIAL, ids=lambda kind: kind.__name__)
def official(shared, request, tmp_path_factory):
    """(class that does not look for the images, content of its split file, data root with the split file)."""
    kind, root = request.param, tmp_path_factory.mktemp(request.param.__name__)
    with tarfile.open(shared / "data" / "coop_splits.tar.xz") as archive:
        split = json.loads(archive.extractfile(kind.split_file).read())
    write_split(root / kind.dataset_dir / kind.split_file, split)
    (root / OFFICIAL[kind][0]).mkdir(parents=True, exist_ok=True)

    class WithoutImages(kind):
        def check_images(self, paths):
            pass

        def find_unreadable(self, paths, cfg):
            return None

    isfile = os.path.isfile  # with which Dassl checks each image
    with mock.patch("os.path.isfile", lambda path: str(path).startswith(str(root)) or isfile(path)):
        yield WithoutImages, split, root


def test_labels_and_names(official):
    kind, split, root = official
    folder, classes, sizes, *_ = OFFICIAL[kind.__base__]
    dataset = kind(config(root))
    if issubclass(kind, OxfordFlowers):  # it tests the order below
        assert [row[1] for row in split["train"]] != sorted(row[1] for row in split["train"])
    for part, items in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
        assert below(root / folder, items) == [tuple(row) for row in split[part]]
    assert dataset.sizes == kind.official == (classes, *sizes)
    names = {label: name for _, label, name in split["test"]}
    assert dataset.classnames == dataset.all_classnames == [names[label] for label in range(classes)]


def test_halves(official):
    kind, split, root = official
    _, classes, _, tests, base_shots, (first, last_base, first_new, last) = OFFICIAL[kind.__base__]
    base, new = (kind(config(root, 16, half)) for half in ("base", "new"))
    assert [len(half.classnames) for half in (base, new)] == [(classes + 1) // 2, classes // 2]
    assert [len(half.test) for half in (base, new)] == list(tests)
    assert len(base.train_x) == base_shots
    assert [base.classnames[0], base.classnames[-1], new.classnames[0], new.classnames[-1]] == [
        first, last_base, first_new, last,
    ]  # fmt: skip
    assert base.sizes == new.sizes == kind.official  # of the whole data set
    wrong = [item for half in (base, new) for item in half.test if half.classnames[item.label] != item.classname]
    assert not wrong
