"""What a split file and a few-shot list may hold, on a data set of five classes made here."""

import json
import random
from pathlib import Path

import pytest
from dassl.config import get_cfg_default
from PIL import Image

import datasets
from fdbpl.config import merge
from fdbpl.data.classes import subsample_classes
from fdbpl.data.few_shot import draw
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.errors import UserError


class Toy(SplitDataset):
    dataset_dir = "toy"
    image_dir = "images"
    split_file = "split.json"


@pytest.fixture
def root(tmp_path):
    rows, val, test = (
        [[f"{name}/{i}.jpg", label, name] for label, name in enumerate("abcde") for i in numbers]
        for numbers in (range(6), range(6, 9), range(9, 15))
    )
    for path, _, _ in rows + val + test:
        file = tmp_path / "toy" / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(file)
    write_split(tmp_path, {"train": rows, "val": val, "test": test})
    return tmp_path


def write_split(root, content):
    (root / "toy" / "split.json").write_text(json.dumps(content))


def split_of(root):
    return json.loads((root / "toy" / "split.json").read_text())


def config(root, shots=2, subsample="all", seed=1):
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.FEWSHOT_DIR = str(root), str(root / "cache")
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES, cfg.SEED = shots, subsample, seed
    return cfg


def test_the_list_lies_beside_the_data(root):
    dataset = Toy(config(root))
    stored = json.loads((root / "toy" / "split_fewshot" / "shot_2-seed_1.json").read_text())
    assert [str(root / "toy" / "images" / row[0]) for row in stored["train"]] == [
        item.impath for item in dataset.train_x
    ]
    assert not list((root / "cache").rglob("*.json"))


def test_a_read_only_data_root(root):
    (root / "toy").chmod(0o555)
    Toy(config(root))
    (root / "toy").chmod(0o755)
    assert (root / "cache" / "toy" / "shot_2-seed_1.json").is_file()


def test_the_draw_is_that_of_dassl(parity):
    import random

    reference = json.loads((parity / "dassl.json").read_text())["fewshot"]
    for case in reference["results"]:
        generator = random.Random(case["seed"])
        for part, shots, offset in (("train", case["shots"], 0), ("val", min(case["shots"], 4), 1000)):
            labels = reference["lists"][case["list"] if part == "train" else "val"]
            rows = [(str(offset + number), label, "") for number, label in enumerate(labels)]
            assert [int(row[0]) for row in draw(generator, rows, shots)] == case[part]
        assert generator.random() == case["next_random"]


def test_the_halves_are_those_of_coop(parity):
    cases = json.loads((parity / "dassl.json").read_text())["subsample"]["cases"]
    assert cases
    for case in cases:
        labels = case.get("gapped_labels") or [*range(case["n"])] * 2
        test_labels = case.get("test_labels") or [*reversed(range(case["n"]))]
        train, test = ([(str(i), label, "") for i, label in enumerate(source)] for source in (labels, test_labels))
        halves = subsample_classes(train, test, subsample=case["mode"])
        for rows, source, part in zip(halves, (labels, test_labels), ("train", "test"), strict=True):
            if "gapped_labels" in case:
                assert [int(row[0]) for row in rows] == case[f"{part}_items"]
            else:
                assert [source[int(row[0])] for row in rows] == case[f"{part}_old_labels"]
            assert [row[1] for row in rows] == case[f"{part}_new_labels"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda split: split.pop("val"), "must hold lists train, val and test"),
        (lambda split: split["train"].clear(), "has no images in train"),
        (lambda split: split["train"].append(["a/x.jpg", 0, "other"]), "label 0 has several class names"),
        (lambda split: split["train"].append(["a/x.jpg", 9, "nine"]), "label 5 .*; correct the split file$"),
        (lambda split: split["test"].append(["a/x.jpg", 5, "f"]), r"no training images of f \(1 such classes\)"),
        (lambda split: [row.__setitem__(2, "a") for rows in split.values() for row in rows], "'a' occurs twice"),
        (lambda split: split["test"].append(["../../secret.jpg", 0, "a"]), "not stay below the image folder"),
        (lambda split: split["test"].append(["/etc/passwd", 0, "a"]), "not stay below the image folder"),
        (lambda split: split["test"].append(["a/99.jpg", 0, "a"]), r"1 of .* images are missing .*\(a/99.jpg\)"),
        (lambda split: split["test"].append("a/1.jpg"), "row 30 of test"),
    ],
)
def test_broken_splits_are_named(root, change, sentence):
    split = split_of(root)
    change(split)
    write_split(root, split)
    with pytest.raises(UserError, match=sentence):
        Toy(config(root))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"train": [["b/77.jpg", 1, "b"]], "val": []}, "'b/77.jpg', which is not in the split"),
        ({"train": [["a/1.jpg", 1, "b"]], "val": []}, "'a/1.jpg', which is not in the split"),
        ({"train": []}, "must hold lists train and val"),
        ({"train": [["a/1.jpg", 0, "a"], ["b/1.jpg", 1, "b"]], "val": []}, "no training images of c"),
        ("[", "cannot be read"),
    ],
)
def test_a_list_of_another_split_is_refused(root, content, sentence):
    file = root / "toy" / "split_fewshot" / "shot_2-seed_1.json"
    file.parent.mkdir()
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=sentence):
        Toy(config(root))


def test_a_list_does_not_outlive_its_split(root, capsys):
    """The list of a cut-down split is not used for the whole one: the images are those that Dassl draws from it."""
    whole = split_of(root)
    write_split(root, {**whole, "train": [row for row in whole["train"] if int(row[0][2]) < 2]})
    assert len(Toy(config(root)).train_x) == 10
    write_split(root, whole)
    expected = draw(random.Random(1), [tuple(row) for row in whole["train"]], 2)
    found = [str(item.impath) for item in Toy(config(root)).train_x]
    assert found == [str(root / "toy" / "images" / row[0]) for row in expected]
    assert "another split" in capsys.readouterr().out
    Toy(config(root))  # the new list has taken its place
    assert f"read from {root / 'toy' / 'split_fewshot' / 'shot_2-seed_1.json'}" in capsys.readouterr().out


def test_a_list_without_a_digest_needs_all_shots(root):
    file = root / "toy" / "split_fewshot" / "shot_2-seed_1.json"
    Toy(config(root))
    stored = json.loads(file.read_text())
    del stored["split"]
    file.write_text(json.dumps(stored))
    Toy(config(root))  # lists of older versions stay readable
    file.write_text(json.dumps({**stored, "train": stored["train"][::2]}))
    with pytest.raises(UserError, match="lists 1 training images of a"):
        Toy(config(root))


def test_without_a_seed_every_draw_is_new(root):
    draws = {tuple(item.impath for item in Toy(config(root, seed=-1)).train_x) for _ in range(5)}
    assert len(draws) > 1 and not (root / "toy" / "split_fewshot").exists()


def test_the_digests_are_of_what_is_used(root):
    before = Toy(config(root)).digests
    assert Toy(config(root)).digests == before
    other = Toy(config(root, seed=2)).digests
    assert other["test"] == before["test"] and other["train"] != before["train"]
    split = split_of(root)
    write_split(root, {**split, "test": split["test"][1:]})
    assert Toy(config(root)).digests["test"] != before["test"]
    split["test"] = [[path, label, name.upper()] for path, label, name in split["test"]]
    split["train"] = [[path, label, name.upper()] for path, label, name in split["train"]]
    split["val"] = [[path, label, name.upper()] for path, label, name in split["val"]]
    write_split(root, split)
    assert Toy(config(root)).digests["test"] != before["test"]


def test_fewer_images_than_shots(root):
    assert len(Toy(config(root, shots=50)).train_x) == 5 * 6


def test_an_unknown_half(root):
    with pytest.raises(UserError, match="DATASET.SUBSAMPLE_CLASSES is 'novel'; set one of all, base, new"):
        Toy(config(root, subsample="novel"))


def test_old_configuration_keys(capsys):
    cfg = config(Path("root"))
    merge(cfg, {"DATASET.CACHE": "lists", "DATASET.ALLOW_PICKLE": "False"}, "old.yaml")
    assert cfg.DATASET.FEWSHOT_DIR == "lists"
    assert "DATASET.CACHE in old.yaml is now called DATASET.FEWSHOT_DIR" in capsys.readouterr().err
    with pytest.raises(UserError, match="DATASET.ALLOW_PICKLE in old.yaml was removed"):
        merge(cfg, {"DATASET.ALLOW_PICKLE": True}, "old.yaml")
