"""Notes below tables, in every format."""

import csv

import pytest

from fdbpl.report import write_report
from fdbpl.runs.results import base2new_line

NAMES = {"classnames": ["cat", "dog"]}


def table(tree) -> str:
    write_report(tree.output, gallery=False)
    texts = [(tree.output / "report" / name).read_text() for name in ("table.md", "table.tex", "report.html")]
    first, *_ = texts
    assert all(("unreadable" in text) == ("unreadable" in first) for text in texts)
    return first


def test_note_on_unreadable_images(tree):
    assert "unreadable" not in table_with(tree, {})
    text = table_with(tree, {"count": 12, "images": {}})
    assert "demo: 12 unreadable images left out (DATASET.SKIP_UNREADABLE)" in text


def table_with(tree, left_out: dict) -> str:
    key = tree.run("base2new/train_base")
    tree.run("base2new/test_new", classes="new", tests=key, **({"left_out": left_out} if left_out else {}))
    return table(tree)


@pytest.mark.parametrize(("images", "few"), [(4, True), (8, False)])
def test_note_on_missing_shots(tree, images, few):
    tree.run("train_all", classes="all", shots=4, protocol={**NAMES, "train_images": images})
    assert ("demo: 4 training images instead of 4 shots per class" in table(tree)) == few


def test_note_on_collapsed_trainings(tree):
    key = tree.run("base2new/train_base", seed=3, collapsed=True)
    tree.run("base2new/test_new", seed=3, classes="new", tests=key)
    text = table(tree)
    assert "seed 3 collapsed, probably because of its learning rate (OPTIM.LR" in text
    assert text.count("collapsed") == 1
    base, new = (
        next((tree.output / "base2new" / part).rglob("metrics.json")).parent for part in ("train_base", "test_new")
    )
    assert base2new_line(base, new).endswith("(the training collapsed, see its log)")


def test_note_on_different_test_images(tree):
    for seed, images in ((1, 500), (2, 100)):
        key = tree.run("train_all", classes="all", seed=seed)
        tree.run("evaluation/food101", dataset="food101", source="demo", classes="all", seed=seed, tests=key,
                 protocol={"test_images": images})  # fmt: skip
    assert "food101: runs were tested on different images of all classes (number of images: 100, 500)" in table(tree)


def test_csv_columns_of_settings_and_images(tree):
    tree.run("train_all", classes="all", config="demo+OPTIM.LR=1", left_out={"count": 3},
             protocol={**NAMES, "train_images": 4, "test_images": 9})  # fmt: skip
    write_report(tree.output, gallery=False)
    with open(tree.output / "report/table.csv") as file:
        (row,) = csv.DictReader(file)
    assert (row["overrides"], row["train_images"], row["test_images"], row["left_out"]) == ("OPTIM.LR=1", "4", "9", "3")
    assert len(row["settings"]) == 12
