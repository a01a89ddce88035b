"""Split files, few-shot lists and halves of a small data set in CoOp's layout."""

import copy
import json
import random
from pathlib import Path

import pytest

from fdbpl.config import merge
from fdbpl.data.classes import subsample_classes
from fdbpl.data.few_shot import draw
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.errors import UserError

from .trees import config, small_images, write_split

CLASSES = "abcde"
PARTS = {"train": range(6), "val": range(6, 9), "test": range(9, 15)}
SPLIT = {
    part: [[f"{name}/{number}.ppm", label, name] for label, name in enumerate(CLASSES) for number in numbers]
    for part, numbers in PARTS.items()
}
FEW = {  # a valid list of two shots
    "train": [row for row in SPLIT["train"] if row[0][2] in "02"],
    "val": [row for row in SPLIT["val"] if row[0][2] in "67"],
}


class Toy(SplitDataset):
    dataset_dir = "toy"
    image_dir = "images"
    split_file = "split.json"


@pytest.fixture
def root(tmp_path):
    small_images(tmp_path / "toy" / "images", [row[0] for rows in SPLIT.values() for row in rows])
    write_split(tmp_path / "toy" / "split.json", SPLIT)
    return tmp_path


@pytest.fixture
def few_shot_file(root):
    return root / "toy" / "split_fewshot" / "shot_2-seed_1.json"


def toy(root, shots=2, **settings):
    return Toy(config(root, shots, **settings))


def paths(items, root):
    return [str(Path(item.impath).relative_to(root / "toy" / "images")) for item in items]


def put(part, row, position, value):
    return lambda content: content[part][row].__setitem__(position, value)


def add(part, *row):
    return lambda content: content[part].append(list(row))


def rename(label, name):
    """Give a class another name in all rows."""
    return lambda content: [row.__setitem__(2, name) for rows in content.values() for row in rows if row[1] == label]


def relabel(old, new):
    return lambda content: [row.__setitem__(1, new) for rows in content.values() for row in rows if row[1] == old]


def one_class(content):
    for part, rows in content.items():
        content[part] = [row for row in rows if row[1] == 0]


INVALID_SPLITS = [
    (lambda split: split.pop("test"), "must hold lists train, val and test"),
    (lambda split: split.update(train={}), "'train': dict"),
    (lambda split: split["train"].clear(), "has no images in train"),
    (lambda split: split["test"].clear(), "has no images in test"),
    (lambda split: split["test"].append({"path": "x", "label": 0}), "row 30 of test"),
    (lambda split: split["test"].append("a/1.ppm"), "row 30 of test"),
    (lambda split: split["train"][2].pop(), "row 2 of train"),
    (put("train", 0, 0, 7), r"\[7, 0, 'a'\]"),
    (put("train", 0, 0, ""), "the path '' "),
    (put("train", 0, 0, "/etc/passwd"), "'/etc/passwd' .* not stay below the image folder"),
    (put("train", 0, 0, "../../secret.jpg"), "not stay below the image folder"),
    (put("train", 0, 0, "a/\0.ppm"), "not stay below the image folder"),
    (put("test", 0, 0, "b" * 5000 + ".ppm"), "missing below"),
    (put("test", 0, 0, "a"), "missing below"),
    (put("test", 0, 0, "a/gone.ppm"), r"1 of 50 images are missing below .*\(a/gone.ppm\)"),
    (put("train", 0, 1, float("nan")), "row 0 of train"),
    (put("train", 0, 1, -1), "label -1"),
    (put("train", 0, 1, 10**400), "no image has label 5"),
    (lambda split: [relabel(label, label + 1)(split) for label in range(4, -1, -1)], "no image has label 0"),
    (relabel(2, 9), "no image has label 2 .*; correct the split file$"),
    (put("train", 0, 2, "other"), "label 0 has several class names"),
    (rename(1, "a"), "'a' occurs twice"),
    (rename(1, "A"), "'a' and 'A'"),
    (put("train", 0, 2, 5), "row 0 of train"),
    (rename(0, ""), "empty or not valid"),
    (lambda split: split["test"].append(split["train"][3]), "in train and test"),
    (add("train", "a/0.ppm", 1, "b"), "more than once"),
    (add("test", "x.ppm", 5, "new"), r"no training images of new \(1 such classes\)"),
    (one_class, "at least two"),
]


@pytest.mark.parametrize(("change", "message"), INVALID_SPLITS, ids=lambda value: value if type(value) is str else "")
def test_invalid_split(root, change, message):
    split = copy.deepcopy(SPLIT)
    change(split)
    write_split(root / "toy" / "split.json", split)
    with pytest.raises(UserError, match=message) as caught:
        toy(root)
    assert str(root) in str(caught.value) and len(str(caught.value)) < 1000


VALID_SPLITS = {
    "no validation images": lambda split: split["val"].clear(),
    "unknown keys": lambda split: split.update(note="mine", dev=[]),
    "a class without test images": lambda split: split.update(test=split["test"][6:]),
    **{name: rename(0, name) for name in ("🦓 bänded 斑馬", "{0.__class__} {x} {}", '%s "it\'s" 100%', "a\nb")},
}


@pytest.mark.parametrize("change", VALID_SPLITS.values(), ids=VALID_SPLITS)
def test_unusual_but_valid_split(root, change):
    split = copy.deepcopy(SPLIT)
    change(split)
    write_split(root / "toy" / "split.json", split)
    dataset = toy(root)
    assert dataset.classnames == [name for _, _, name in split["train"][::6]]
    assert paths(dataset.test, root) == [row[0] for row in split["test"]]


def test_few_shot_list_is_saved_and_read(root, few_shot_file, capsys):
    dataset = toy(root)
    stored = json.loads(few_shot_file.read_text())
    assert [row[0] for row in stored["train"]] == paths(dataset.train_x, root)
    assert not list((root / "cache").rglob("*.json"))
    assert paths(toy(root).train_x, root) == paths(dataset.train_x, root) != paths(toy(root, seed=2).train_x, root)
    assert f"read from {few_shot_file}" in capsys.readouterr().out
    few_shot_file.write_text(json.dumps(FEW))  # as written by other tools and older versions
    assert paths(toy(root).train_x, root) == [row[0] for row in FEW["train"]]


def test_few_shot_list_of_a_read_only_data_set(root):
    (root / "toy").chmod(0o555)
    toy(root)
    (root / "toy").chmod(0o755)
    assert (root / "cache" / "toy" / "shot_2-seed_1.json").is_file()


INVALID_LISTS = [
    (lambda few: few.pop("val"), "must hold lists train and val"),
    (lambda few: few.update(train=None), "'train': NoneType"),
    (lambda few: few["train"].clear(), "lists no training images of a"),
    (lambda few: few["train"].append("x.ppm"), "row 10 of train"),
    (put("train", 0, 1, "0"), "row 0 of train"),
    (put("train", 0, 1, 0.0), "row 0 of train"),
    (put("train", 0, 1, float("inf")), "row 0 of train"),
    (put("train", 0, 1, 1), "'a/0.ppm', which is not in the split"),
    (put("train", 0, 2, "other"), "'a/0.ppm', which is not in the split"),
    (put("train", 0, 0, "b/77.ppm"), "'b/77.ppm', which is not in the split"),
    (put("train", 0, 0, "a/9.ppm"), "'a/9.ppm', which is not in the split"),
    (put("train", 0, 0, "../x.ppm"), "not stay below"),
    (put("train", 0, 0, "/x.ppm"), "not stay below"),
    (lambda few: few["train"].append(few["val"][0]), "more than once"),
    (lambda few: few["train"].__setitem__(1, few["train"][0]), "more than once"),
    (add("val", "a/1.ppm", 0, "a"), "not in the split"),
    (add("train", "a/1.ppm", 0, "a"), "more than the 2"),
    (lambda few: few.update(train=few["train"][2:]), "no training images of a"),
    (lambda few: few.update(train=few["train"][1:]), "lists 1 training images of a"),
]


@pytest.mark.parametrize(("change", "message"), INVALID_LISTS, ids=lambda value: value if type(value) is str else "")
def test_invalid_few_shot_list(root, few_shot_file, change, message):
    few = copy.deepcopy(FEW)
    change(few)
    write_split(few_shot_file, few)
    with pytest.raises(UserError, match=f"{message}.*; delete that file to draw the images again") as caught:
        toy(root)
    assert str(few_shot_file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"\x80\x04}.", b"[1]"])
def test_few_shot_list_of_another_type(root, few_shot_file, content):
    few_shot_file.parent.mkdir()
    few_shot_file.write_bytes(content)
    with pytest.raises(UserError, match=f"{few_shot_file}.*(cannot be read|holds a list)"):
        toy(root)


def test_list_of_another_split_is_drawn_again(root, few_shot_file, capsys):
    write_split(root / "toy" / "split.json", {**SPLIT, "train": [row for row in SPLIT["train"] if row[0][2] in "01"]})
    assert len(toy(root).train_x) == 10
    write_split(root / "toy" / "split.json", SPLIT)
    expected = draw(random.Random(1), [tuple(row) for row in SPLIT["train"]], 2)
    assert paths(toy(root).train_x, root) == [row[0] for row in expected]
    assert "another split" in capsys.readouterr().out
    toy(root)
    assert f"read from {few_shot_file}" in capsys.readouterr().out


def test_draw_without_seed(root):
    draws = {tuple(paths(toy(root, seed=-1).train_x, root)) for _ in range(5)}
    assert len(draws) > 1 and not (root / "toy" / "split_fewshot").exists()


def test_fewer_images_than_shots(root):
    assert len(toy(root, shots=50).train_x) == 5 * 6


def test_draws_equal_those_of_dassl(parity):
    reference = json.loads((parity / "dassl.json").read_text())["fewshot"]
    for case in reference["results"]:
        generator = random.Random(case["seed"])
        for part, shots, offset in (("train", case["shots"], 0), ("val", min(case["shots"], 4), 1000)):
            labels = reference["lists"][case["list"] if part == "train" else "val"]
            rows = [(str(offset + number), label, "") for number, label in enumerate(labels)]
            assert [int(row[0]) for row in draw(generator, rows, shots)] == case[part]
        assert generator.random() == case["next_random"]


def test_halves_equal_those_of_coop(parity):
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


def test_halves_of_one_draw(root):
    whole, base, new = (toy(root, subsample=half) for half in ("all", "base", "new"))
    assert (base.classnames, new.classnames) == (["a", "b", "c"], ["d", "e"])
    assert whole.all_classnames == base.all_classnames == new.all_classnames == list(CLASSES)
    assert paths(whole.train_x, root) == paths(base.train_x, root) + paths(new.train_x, root)
    assert [item.label for item in new.test] == [0] * 6 + [1] * 6
    assert new.protocol["train_images"] == 4 and new.sizes == whole.sizes == (5, 30, 15, 30)
    with pytest.raises(UserError, match="DATASET.SUBSAMPLE_CLASSES is 'novel'; set one of all, base, new"):
        toy(root, subsample="novel")


def test_digests_change_with_the_images_and_names_in_use(root):
    before = toy(root).digests
    assert toy(root).digests == before
    other = toy(root, seed=2).digests
    assert other["test"] == before["test"] and other["train"] != before["train"]
    for change in (lambda split: split["test"].pop(0), rename(0, "A")):
        split = copy.deepcopy(SPLIT)
        change(split)
        write_split(root / "toy" / "split.json", split)
        assert toy(root).digests["test"] != before["test"]


def test_renamed_and_removed_configuration_keys(capsys):
    cfg = config("root")
    merge(cfg, {"DATASET.CACHE": "lists", "DATASET.ALLOW_PICKLE": "False"}, "old.yaml")
    assert cfg.DATASET.FEWSHOT_DIR == "lists"
    assert "DATASET.CACHE in old.yaml is now called DATASET.FEWSHOT_DIR" in capsys.readouterr().err
    with pytest.raises(UserError, match="DATASET.ALLOW_PICKLE in old.yaml was removed"):
        merge(cfg, {"DATASET.ALLOW_PICKLE": True}, "old.yaml")
