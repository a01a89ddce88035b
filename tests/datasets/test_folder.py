"""The data set `folder`: few shots, banks, halves and changes of custom data."""

import json

import pytest

from datasets.folder import Folder
from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.engine import registry
from fdbpl.engine.bank_discovery import bank_root, training_images
from fdbpl.errors import UserError
from tests.data.custom.files import CLASSES, write_classes, write_csv, write_image


@pytest.fixture
def pets(tmp_path):
    return write_classes(tmp_path / "my pets'")


def config(place, cache, **keys):
    cfg = registry.default_config()
    cfg.DATASET.FOLDER, cfg.DATASET.FEWSHOT_DIR, cfg.DATASET.NUM_SHOTS, cfg.SEED = str(place), str(cache), 16, 1
    for key, value in keys.items():
        cfg.DATASET[key] = value
    return cfg


def test_the_data_set(pets, tmp_path, capsys):
    dataset = Folder(config(pets, tmp_path / "cache"))
    assert "Images of " in capsys.readouterr().out
    assert dataset.name == "my_pets" and len(dataset.train_x) == 16 and dataset.protocol["test_images"] == 8
    root, images = training_images(config(pets, tmp_path), dataset)
    assert root == pets and all((root / image).is_file() for image in images)
    (stored,) = (tmp_path / "cache").rglob("shot_16-seed_1.json")
    assert {row[0] for row in json.loads(stored.read_text())["train"]} == set(images)
    assert sorted(path.name for path in pets.iterdir()) == sorted(CLASSES)  # nothing is written into the folder


def test_the_data_root_replaces_an_empty_folder(pets, tmp_path):
    assert Folder(config("", tmp_path, ROOT=str(pets))).name == "my_pets"
    with pytest.raises(UserError, match="no folder of images is given"):
        Folder(config("", tmp_path))


def test_a_changed_folder_has_other_lists_and_another_digest(pets, tmp_path):
    before = Folder(config(pets, tmp_path / "cache"))
    write_image(pets / "dog-9" / "new.png")
    Folder(config(pets, tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("shot_16-seed_1.json"))) == 2
    with pytest.raises(UserError, match="have changed since the command started"):
        Folder(config(pets, tmp_path / "cache", FOLDER_DIGEST=before.own.digest))


def test_two_folders_of_one_name_have_two_banks(tmp_path):
    roots = set()
    for place in ("a", "b"):
        cfg = config(write_classes(tmp_path / place / "pets"), tmp_path / "cache")
        roots.add(bank_root(cfg, Folder(cfg)))
    assert len(roots) == 2


def test_halves_need_two_classes_each(tmp_path):
    place = write_classes(tmp_path / "pets", CLASSES[:3])
    with pytest.raises(UserError, match="has 3 classes, but .* need four; add classes, or train on all"):
        Folder(config(place, tmp_path, SUBSAMPLE_CLASSES="base"))
    assert Folder(config(place, tmp_path)).num_classes == 3


@pytest.mark.parametrize("kind", ["folders", "csv"])
def test_a_class_without_test_images_is_named(tmp_path, capsys, kind):
    files = [
        f"{part}/{name}/1.jpg" for part in ("train", "test") for name in CLASSES if (part, name) != ("test", "dog-9")
    ]
    for file in files:
        write_image(tmp_path / "pets" / file)
    place = tmp_path / "pets"
    if kind == "csv":
        rows = [(file, file.split("/")[1], file.split("/")[0]) for file in files]
        place = write_csv(place / "labels.csv", rows, ("path", "class", "split"))
    dataset = Folder(config(place, tmp_path / "cache"))
    assert dataset.num_classes == 4 and len(dataset.test) == 3
    assert f"Classes without test images in {tmp_path / 'pets'}: 1 (dog 9)\n" in capsys.readouterr().out


def test_a_split_without_test_images(tmp_path):
    rows = [(f"{number}.png", "ab"[number % 2], "train") for number in range(4)]
    for path, _, _ in rows:
        write_image(tmp_path / path)
    with pytest.raises(UserError, match="no images in test"):
        Folder(config(write_csv(tmp_path / "labels.csv", rows, ("path", "class", "split")), tmp_path))


def test_data_that_are_only_classified(tmp_path):
    """A single class and classes of one image are accepted, and no image is kept for training."""
    write_image(tmp_path / "cat" / "a.jpg")
    own = read_custom_data(str(tmp_path), training=False)
    assert own.rows == {"train": [], "val": [], "test": [("cat/a.jpg", 0, "cat")]}


def test_parquet_files_have_the_cache_as_their_root(tmp_path, monkeypatch):
    from tests.data.custom.test_hugging_face import write_embedded

    monkeypatch.setenv("FDBPL_CACHE", str(tmp_path / "cache"))
    write_embedded(tmp_path / "pets" / "train.parquet", count=8)
    cfg = config(tmp_path / "pets", tmp_path / "few")
    dataset = Folder(cfg)
    assert dataset.root == Folder.root_of(cfg) == str(dataset.own.folder) != str(tmp_path / "pets")
    assert all(item.impath.startswith(dataset.root) for item in dataset.train_x) and len(dataset.train_x) == 16


def test_real_photographs(shared, tmp_path):
    place = shared / "data" / "caltech-101" / "101_ObjectCategories"
    dataset = Folder(config(place, tmp_path, NUM_SHOTS=1))
    assert dataset.num_classes == 100 and len(dataset.train_x) == 100
    assert "Motorbikes" in dataset.classnames and "cougar body" in dataset.classnames
