"""CoOp's split files in the variants that people write."""

import json

import pytest

from fdbpl.data.custom.dataset import read_custom_data

from .files import CLASSES, has_guess, labels, refusal, sizes, write_flat

NAMES = [f"{name}_x" for name in CLASSES]  # kept as written, in label order


@pytest.fixture
def split(tmp_path):
    rows = write_flat(tmp_path / "images", count=4)
    return {
        part: [[f"images/{file}", CLASSES.index(name), f"{name}_x"] for file, name in rows if file[0] in numbers]
        for part, numbers in {"train": "01", "val": "2", "test": "3"}.items()
    }


def change_rows(change):
    return lambda split: {part: [change(*row) for row in rows] for part, rows in split.items()}


@pytest.mark.parametrize(("change", "guess"), [
    (lambda split: split, ""), (lambda split: {**split, "val": []}, ""),
    (lambda split: {k: v for k, v in split.items() if k != "val"}, ""),
    (lambda split: {"train": split["train"], "valid": split["val"], "test": split["test"]}, ""),
    (change_rows(lambda path, label, name: [path, label + 1, name]), "labels 1 to 4 are numbered 0 to 3"),
    (change_rows(lambda path, label, name: [path, label * 10, name]), "labels 0 to 30 are numbered 0 to 3"),
    (change_rows(lambda path, label, name: [path, str(label), name]), ""),
    (change_rows(lambda path, label, name: [path, float(label), f"{name} "]), ""),
    (change_rows(lambda path, label, name: {"path": path, "label": label, "name": name}), ""),
    (change_rows(lambda path, label, name: [path.replace("/", "\\"), label, name]), "searched"),
    (change_rows(lambda path, label, name: [path[7:], label, name]), "searched"),
    (change_rows(lambda path, label, name: [f"/data/pets/{path}", label, name]), "searched"),
])  # fmt: skip
@pytest.mark.parametrize("place", ["split_me.json", ""])
def test_variants(tmp_path, split, change, guess, place):
    changed = change(split)
    (tmp_path / "split_me.json").write_text(json.dumps(changed), encoding="utf-8-sig")
    data = read_custom_data(str(tmp_path / place))
    assert data.format == "CoOp split file" and data.classnames == NAMES
    assert sizes(data) == (8, 4 if any(changed.get(key) for key in ("val", "valid")) else 0, 4)
    assert labels(data)["images/3_dog-10.png"] == "dog-10_x"
    assert has_guess(data, guess) if guess else not data.guesses


def test_rows_without_names(tmp_path, split):
    rows = {part: [row[:2] for row in rows] for part, rows in split.items()}
    (tmp_path / "split.json").write_text(json.dumps(rows))
    assert read_custom_data(str(tmp_path / "split.json")).classnames == ["0", "1", "2", "3"]
    (tmp_path / "classes.txt").write_text("fox\nwolf\nhound\npoodle\n")
    assert read_custom_data(str(tmp_path / "split.json")).classnames == ["fox", "wolf", "hound", "poodle"]


@pytest.mark.parametrize(("change", "words"), [
    (lambda split: split["train"], "must hold lists train, val and test"),
    (lambda split: {"train": []}, "must hold lists"),
    (lambda split: {**split, "training": []}, "several lists for train"),
    (lambda split: {**split, "test": split["test"] + split["train"][:1]}, "in two splits, train and test"),
    (lambda split: {**split, "test": [["images/3_dog-9.png", 0, "poodle"]]}, "label 0 has the class names"),
    (change_rows(lambda path, label, name: [path, label, "dog"]), "two labels in"),
    (change_rows(lambda path, label, name: [path, -1, name]), "its label must be a number 0, 1, 2"),
    (change_rows(lambda path, label, name: [path, 0.5, name]), "its label must be a number"),
    (change_rows(lambda path, label, name: [path, True, name]), "its label must be a number"),
    (change_rows(lambda path, label, name: [path, float("inf"), name]), "its label must be a number"),
    (change_rows(lambda path, label, name: [path]), "row 0 of train in"),
    (change_rows(lambda path, label, name: [path, label, f"{name}\ud800"]), "gives no class name"),
    (change_rows(lambda path, label, name: "x"), "not [path, label, class name]"),
    (change_rows(lambda path, label, name: [f"../{label}/{path}x", label, name]), "is not below"),
])  # fmt: skip
def test_refused_split_files(tmp_path, split, change, words):
    (tmp_path / "split.json").write_text(json.dumps(change(split)))
    message = refusal(tmp_path / "split.json")
    assert words in message and str(tmp_path) in message


def test_a_large_file_of_another_kind_is_a_short_message(tmp_path):
    (tmp_path / "split.json").write_text("[" + "1," * 500_000 + "1]")
    assert "is not a split file" in refusal(tmp_path / "split.json")
    (tmp_path / "split.json").write_text('{"a": 1}\n{"a": 2}')
    assert "split.json" in refusal(tmp_path / "split.json")
