"""CoOp's split files through the data sets' own classes: classes, order of the labels, halves, sizes."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest

from datasets.catalog import UCF101, Caltech101, DescribableTextures, EuroSAT, OxfordFlowers, OxfordPets, StanfordCars

from .trees import below, config, small_images, write_split

# Image folder; classes; train, val, test; test images of base and of new; 16 shots of base; each half's border names.
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
    """(class, its split as it is in CoOp's file, a data root that holds it)."""
    kind, root = request.param, tmp_path_factory.mktemp(request.param.__name__)
    with tarfile.open(shared / "data" / "coop_splits.tar.xz") as archive:
        split = json.loads(archive.extractfile(kind.split_file).read())
    write_split(root / kind.dataset_dir / kind.split_file, split)
    small_images(root / OFFICIAL[kind][0], [row[0] for rows in split.values() for row in rows])
    yield kind, split, root
    shutil.rmtree(root)


def test_every_image_has_the_label_and_the_name_of_the_split(official):
    kind, split, root = official
    folder, classes, sizes, *_ = OFFICIAL[kind]
    dataset = kind(config(root))
    for part, items in (("train", dataset.train_x), ("val", dataset.val), ("test", dataset.test)):
        assert below(root / folder, items) == [tuple(row) for row in split[part]]
    assert dataset.sizes == kind.official == (classes, *sizes)
    names = {label: name for _, label, name in split["test"]}
    assert dataset.classnames == dataset.all_classnames == [names[label] for label in range(classes)]


def test_base_and_new_are_the_halves_of_the_field(official):
    kind, split, root = official
    _, classes, _, tests, base_shots, (first, last_base, first_new, last) = OFFICIAL[kind]
    base, new = (kind(config(root, 16, half)) for half in ("base", "new"))
    assert [len(half.classnames) for half in (base, new)] == [(classes + 1) // 2, classes // 2]
    assert [len(half.test) for half in (base, new)] == list(tests)
    assert len(base.train_x) == base_shots
    assert [base.classnames[0], base.classnames[-1], new.classnames[0], new.classnames[-1]] == [
        first, last_base, first_new, last,
    ]  # fmt: skip
    assert base.sizes == new.sizes == kind.official  # what is there, whatever is used of it
    wrong = [item for half in (base, new) for item in half.test if half.classnames[item.label] != item.classname]
    assert not wrong


def test_flowers_are_not_in_the_order_of_their_labels(shared):
    with tarfile.open(shared / "data" / "coop_splits.tar.xz") as archive:
        rows = json.loads(archive.extractfile(Path(OxfordFlowers.split_file).name).read())["train"]
    assert [row[1] for row in rows] != sorted(row[1] for row in rows)  # else the order above would show nothing
