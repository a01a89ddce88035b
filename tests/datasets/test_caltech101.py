"""CoOp's layout on real photographs, and the official split files."""

import json
import tarfile
from pathlib import Path

import pytest
from dassl.config import get_cfg_default

import datasets
from datasets.caltech101 import Caltech101
from datasets.split_dataset import class_names, subsample_classes
from fdbpl.errors import UserError


def config(root, cache, shots=16, seed=1, subsample="all"):
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.CACHE = str(root), str(cache)
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES, cfg.SEED = shots, subsample, seed
    return cfg


@pytest.mark.parametrize(("subsample", "classes"), [("all", 100), ("base", 50), ("new", 50)])
def test_photographs(shared, tmp_path, subsample, classes):
    dataset = Caltech101(config(shared / "data", tmp_path, 4, 1, subsample))
    assert len(dataset.classnames) == dataset.num_classes == classes
    assert len(dataset.all_classnames) == 100
    assert len(dataset.train_x) == 4 * classes and len(dataset.test) == 5 * classes
    assert {item.label for item in dataset.test} == set(range(classes))
    assert dataset.protocol["train_images"] == len(dataset.train_x)


def test_base_and_new_are_the_two_halves_of_one_draw(shared, tmp_path):
    halves = [Caltech101(config(shared / "data", tmp_path, 4, 1, half)) for half in ("base", "new")]
    whole = Caltech101(config(shared / "data", tmp_path, 4, 1, "all"))
    images = [{item.impath for item in dataset.train_x} for dataset in (*halves, whole)]
    assert images[0] | images[1] == images[2] and not images[0] & images[1]
    assert halves[0].classnames + halves[1].classnames == whole.classnames == whole.all_classnames


def test_the_list_is_drawn_once_and_differs_between_seeds(shared, tmp_path):
    first = Caltech101(config(shared / "data", tmp_path, 2, 1))
    again = Caltech101(config(shared / "data", tmp_path, 2, 1))
    other = Caltech101(config(shared / "data", tmp_path, 2, 2))
    paths = [[item.impath for item in dataset.train_x] for dataset in (first, again, other)]
    assert paths[0] == paths[1] != paths[2]
    assert sorted(file.name for file in tmp_path.rglob("*.json")) == ["shot_2-seed_1.json", "shot_2-seed_2.json"]


OFFICIAL = [  # classes, base, train, val, test, test images of base and of new classes
    ("split_zhou_Caltech101.json", 100, 50, 4128, 1649, 2465, 1549, 916),
    ("split_zhou_DescribableTextures.json", 47, 24, 2820, 1128, 1692, 864, 828),
    ("split_zhou_EuroSAT.json", 10, 5, 13500, 5400, 8100, 4200, 3900),
    ("split_zhou_OxfordFlowers.json", 102, 51, 4093, 1633, 2463, 1053, 1410),
    ("split_zhou_OxfordPets.json", 37, 19, 2944, 736, 3669, 1881, 1788),
    ("split_zhou_StanfordCars.json", 196, 98, 6509, 1635, 8041, 4002, 4039),
    ("split_zhou_UCF101.json", 101, 51, 7639, 1898, 3783, 1934, 1849),
]


@pytest.fixture(scope="module")
def official(shared):
    with tarfile.open(shared / "data" / "coop_splits.tar.xz") as archive:
        return {
            Path(member.name).name: json.loads(archive.extractfile(member).read())
            for member in archive
            if Path(member.name).name.startswith("split_zhou")
        }


@pytest.mark.parametrize(("file", "classes", "base", "train", "val", "test", "test_base", "test_new"), OFFICIAL)
def test_official_splits(official, file, classes, base, train, val, test, test_base, test_new):
    splits = {part: [tuple(row) for row in rows] for part, rows in official[file].items()}
    names = class_names(splits, Path(file))
    assert len(names) == classes
    assert [len(splits[part]) for part in ("train", "val", "test")] == [train, val, test]
    halves = [subsample_classes(splits["train"], splits["test"], subsample=half)[1] for half in ("base", "new")]
    assert [len(half) for half in halves] == [test_base, test_new]
    assert [max(row[1] for row in half) + 1 for half in halves] == [base, classes - base]
    assert {row[2] for row in halves[1]} == set(names[base:])


def test_a_root_without_the_data_set(tmp_path):
    with pytest.raises(UserError, match=r"expected the folder of Caltech101 at .*caltech-101, found no folder"):
        Caltech101(config(tmp_path, tmp_path))
    with pytest.raises(UserError, match="expected the data root"):
        Caltech101(config(tmp_path / "nowhere", tmp_path))
