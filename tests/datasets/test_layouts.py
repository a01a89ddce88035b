"""CoOp's folders, data set by data set, and the declarations that have to agree with each other."""

import re
from pathlib import Path

import pytest
import yaml
from dassl.data.datasets import DATASET_REGISTRY

import datasets
from datasets.fgvc_aircraft import FGVCAircraft
from fdbpl.engine.templates import DEFAULT_TEMPLATE, TEMPLATES
from fdbpl.errors import UserError

from .trees import below, config, small_images, write_split

ROOT = Path(datasets.__file__).resolve().parents[1]

SPLIT_FILES = [  # name in configs/datasets, split file below the data root, an image of it and its row's path
    ("caltech101", "caltech-101/split_zhou_Caltech101.json", "caltech-101/101_ObjectCategories/", "ant/image_0001.jpg"),
    ("oxford_pets", "oxford_pets/split_zhou_OxfordPets.json", "oxford_pets/images/", "Abyssinian_1.jpg"),
    ("stanford_cars", "stanford_cars/split_zhou_StanfordCars.json", "stanford_cars/", "cars_train/00001.jpg"),
    ("oxford_flowers", "oxford_flowers/split_zhou_OxfordFlowers.json", "oxford_flowers/jpg/", "image_00001.jpg"),
    ("food101", "food-101/split_zhou_Food101.json", "food-101/images/", "apple_pie/1.jpg"),
    ("sun397", "sun397/split_zhou_SUN397.json", "sun397/SUN397/", "a/apartment_building/outdoor/sun_a.jpg"),
    ("dtd", "dtd/split_zhou_DescribableTextures.json", "dtd/images/", "banded/banded_0001.jpg"),
    ("eurosat", "eurosat/split_zhou_EuroSAT.json", "eurosat/2750/", "AnnualCrop/AnnualCrop_1.jpg"),
    ("ucf101", "ucf101/split_zhou_UCF101.json", "ucf101/UCF-101-midframes/", "Yo_Yo/v_YoYo_g01_c01.jpg"),
]


def registered():
    """Our own data sets (upstream's Dassl has others) by the name they are registered under."""
    datasets.extend_cfg(config(""))
    classes = {name: DATASET_REGISTRY.get(name) for name in DATASET_REGISTRY.registered_names()}
    return {name: kind for name, kind in classes.items() if kind.__module__.startswith("datasets.")}


def configured():
    """Registered name by name in configs/datasets."""
    files = (ROOT / "configs" / "datasets").glob("*.yaml")
    return {file.stem: yaml.safe_load(file.read_text())["DATASET"]["NAME"] for file in files}


def published():
    """(name in configs/datasets, class) of the published data sets."""
    return [(file, registered()[name]) for file, name in configured().items() if registered()[name].official]


def test_every_configuration_names_a_data_set_and_every_data_set_has_one():
    assert set(configured().values()) == set(registered())


def test_the_fifteen_are_there():
    assert {file for file, _ in published()} == {
        "imagenet", "caltech101", "oxford_pets", "stanford_cars", "oxford_flowers", "food101", "fgvc_aircraft",
        "sun397", "dtd", "eurosat", "ucf101", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r",
    }  # fmt: skip


def test_a_remedy_names_the_configuration():
    for file, kind in published():
        assert kind.config_name == file


def test_templates_for_forks_are_those_of_the_data_sets():
    for name, kind in registered().items():
        if kind.official:
            assert TEMPLATES.get(name, DEFAULT_TEMPLATE) == kind.template, name
    assert set(TEMPLATES) <= set(registered())


def test_the_table_of_the_docs():
    """docs/DATASETS.md says what the classes say."""
    section = (ROOT / "docs" / "DATASETS.md").read_text().split("\n## ")[1]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in section.splitlines()
            if re.match(r"\| `\w+` \|", line)]  # fmt: skip
    table = {row[0]: row[1:] for row in rows}
    for file, kind in published():
        sizes = [f"{size:,}" if size else "-" for size in kind.official]
        folder = "/".join(filter(None, (kind.dataset_dir, kind.image_dir)))
        assert table.pop(file) == [folder, *sizes, kind.template], file
    assert not table


@pytest.mark.parametrize(("file", "split", "images", "path"), SPLIT_FILES)
def test_images_are_found_in_coops_folders(tmp_path, file, split, images, path):
    other = str(Path(path).with_name("other.jpg"))
    rows = {  # not in the order of the labels
        part: [[f"{other}{ending}", 1, "second"], [f"{path}{ending}", 0, "first_class"]]
        for part, ending in (("train", "1"), ("val", "2"), ("test", ""))
    }
    write_split(tmp_path / split, rows)
    small_images(tmp_path, [images + row[0] for part in rows.values() for row in part])
    kind = registered()[configured()[file]]
    dataset = kind(config(tmp_path))
    assert below(tmp_path, dataset.test) == [(images + other, 1, "second"), (images + path, 0, "first_class")]
    assert dataset.classnames == ["first_class", "second"]
    assert dataset.sizes == (2, 2, 2, 2)
    (tmp_path / split).unlink()
    with pytest.raises(UserError, match=f"the split file of .*; run: bash scripts/prepare_data.sh {file} "):
        kind(config(tmp_path))


def aircraft(root):
    """Four variants, given in the lists in another order; image 10k + l is of label l."""
    variants = ["A310", "F/A-18", "Boeing 707 MAX", "Tu-134"]
    folder = root / "fgvc_aircraft"
    small_images(folder, [f"images/{10 * k + label:07d}.jpg" for k in range(6) for label in range(4)])
    (folder / "variants.txt").write_text("".join(f"{variant}\n" for variant in variants))
    for part, numbers in (("train", range(3)), ("val", [3]), ("test", [4, 5])):
        lines = [f"{10 * k + label:07d} {variants[label]}\n" for k in numbers for label in (2, 0, 3, 1)]
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))
    return folder


def test_aircraft_from_the_official_lists(tmp_path):
    folder = aircraft(tmp_path)
    dataset = FGVCAircraft(config(tmp_path))
    assert dataset.classnames == ["A310", "F/A-18", "Boeing 707 MAX", "Tu-134"]
    assert dataset.sizes == (4, 12, 4, 8)
    numbers = [(int(Path(path).stem), label) for path, label, _ in below(folder, dataset.test)]
    assert numbers == [(42, 2), (40, 0), (43, 3), (41, 1), (52, 2), (50, 0), (53, 3), (51, 1)]
    new = FGVCAircraft(config(tmp_path, 2, "new"))
    assert new.classnames == ["Boeing 707 MAX", "Tu-134"] and len(new.train_x) == 4 and len(new.test) == 4


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "variants.txt").unlink(), r"a list of FGVCAircraft is missing.*variants.txt"),
        (lambda folder: (folder / "images_variant_val.txt").unlink(), r"is missing.*images_variant_val.txt"),
        (lambda folder: (folder / "images_variant_test.txt").write_text("0000040\n"), "the line '0000040' of"),
        (lambda folder: (folder / "images_variant_test.txt").write_text("0000040 A 310\n"), "the line '0000040 A 310'"),
        (lambda folder: (folder / "images_variant_test.txt").write_text("\n"), "has no images in test"),
        (lambda folder: (folder / "images" / "0000050.jpg").unlink(), r"1 of .* images are missing .*\(0000050.jpg\)"),
    ],
)
def test_broken_lists_of_aircraft_are_named(tmp_path, damage, sentence):
    damage(aircraft(tmp_path))
    with pytest.raises(UserError, match=sentence + ".*run: bash scripts/prepare_data.sh fgvc_aircraft --root"):
        FGVCAircraft(config(tmp_path))
