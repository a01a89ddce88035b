"""CoOp's folders of each data set, and consistency of classes, configurations, templates and docs."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from dassl.data.datasets import DATASET_REGISTRY

import datasets
from datasets.catalog import Caltech101
from datasets.fgvc_aircraft import FGVCAircraft
from fdbpl.engine.templates import DEFAULT_TEMPLATE, TEMPLATES
from fdbpl.errors import UserError

from .trees import below, config, small_images, write_split

ROOT = Path(datasets.__file__).resolve().parents[1]
SPLIT_FILES = [  # name in configs/datasets, split file below the data root, its image folder, path of an image
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
    """Our data sets (upstream's Dassl has others) by the name under which they are registered."""
    datasets.extend_cfg(config(""))
    classes = {name: DATASET_REGISTRY.get(name) for name in DATASET_REGISTRY.registered_names()}
    return {name: kind for name, kind in classes.items() if kind.__module__.startswith("datasets.")}


def configured():
    """Registered names by name in configs/datasets."""
    files = (ROOT / "configs" / "datasets").glob("*.yaml")
    return {file.stem: yaml.safe_load(file.read_text())["DATASET"]["NAME"] for file in files}


def test_classes_configurations_and_templates_agree():
    classes, names = registered(), configured()
    assert set(names.values()) == set(classes) and set(TEMPLATES) <= set(classes)
    published = {file: classes[name] for file, name in names.items() if classes[name].official}
    assert len(published) == 15
    for file, kind in published.items():
        assert kind.config_name == file
        assert TEMPLATES.get(names[file], DEFAULT_TEMPLATE) == kind.template, file


def test_table_in_the_docs():
    section = (ROOT / "docs" / "DATASETS.md").read_text().split("\n## ")[1]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in section.splitlines()
            if re.match(r"\| `\w+` \|", line)]  # fmt: skip
    table = {row[0]: row[1:-1] for row in rows}  # without the size of the files
    for file, name in configured().items():
        kind = registered()[name]
        if kind.official:
            sizes = [f"{size:,}" if size else "-" for size in kind.official]
            folder = "/".join(filter(None, (kind.dataset_dir, kind.image_dir)))
            assert table.pop(file) == [folder, *sizes, kind.template], file
    assert not table


@pytest.mark.parametrize(("file", "split", "images", "path"), SPLIT_FILES)
def test_split_file_and_images(tmp_path, file, split, images, path):
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


def test_missing_data_set(tmp_path):
    root = tmp_path / "my data"
    with pytest.raises(UserError, match="the data root .* is missing"):
        Caltech101(config(root))
    root.mkdir()
    with pytest.raises(UserError) as error:
        Caltech101(config(root))
    assert str(error.value) == (
        f"the folder of Caltech101 is missing: there is no {root / 'caltech-101'}; "
        f"run: bash scripts/prepare_data.sh caltech101 --root {shlex.quote(str(root))}"
    )


@pytest.fixture
def aircraft(tmp_path):
    """Four variants, not in the order of the labels; image 10k + l has label l."""
    variants = ["A310", "F/A-18", "Boeing 707 MAX", "Tu-134"]
    folder = tmp_path / "fgvc_aircraft"
    small_images(folder, [f"images/{10 * k + label:07d}.jpg" for k in range(6) for label in range(4)])
    (folder / "variants.txt").write_text("".join(f"{variant}\n" for variant in variants))
    for part, numbers in (("train", range(3)), ("val", [3]), ("test", [4, 5])):
        lines = [f"{10 * k + label:07d} {variants[label]}\n" for k in numbers for label in (2, 0, 3, 1)]
        (folder / f"images_variant_{part}.txt").write_text("".join(lines))
    return folder


def test_aircraft(aircraft):
    dataset = FGVCAircraft(config(aircraft.parent))
    assert dataset.classnames == ["A310", "F/A-18", "Boeing 707 MAX", "Tu-134"]
    assert dataset.sizes == (4, 12, 4, 8)
    numbers = [(int(Path(path).stem), label) for path, label, _ in below(aircraft, dataset.test)]
    assert numbers == [(42, 2), (40, 0), (43, 3), (41, 1), (52, 2), (50, 0), (53, 3), (51, 1)]
    new = FGVCAircraft(config(aircraft.parent, 2, "new"))
    assert new.classnames == ["Boeing 707 MAX", "Tu-134"] and len(new.train_x) == 4 and len(new.test) == 4


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("variants.txt", None, r"a list of FGVCAircraft is missing.*variants.txt"),
        ("images_variant_val.txt", None, r"is missing.*images_variant_val.txt"),
        ("images_variant_test.txt", "0000040\n", "the line '0000040' of"),
        ("images_variant_test.txt", "0000040 A 310\n", "the line '0000040 A 310'"),
        ("images_variant_test.txt", "\n", "has no images in test"),
        ("images/0000050.jpg", None, r"1 of .* images are missing .*\(0000050.jpg\)"),
    ],
)
def test_broken_aircraft(aircraft, file, content, message):
    (aircraft / file).unlink()
    if content is not None:
        (aircraft / file).write_text(content)
    with pytest.raises(UserError, match=message + ".*run: bash scripts/prepare_data.sh fgvc_aircraft --root"):
        FGVCAircraft(config(aircraft.parent))
