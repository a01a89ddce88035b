"""Results by class, from the predictions that runs store."""

import csv

import numpy as np
import pytest
from PIL import Image

from fdbpl.report.classes import SCORES, make_tested
from fdbpl.report.report import read_results, write_report

CAT, DOG, OWL = range(3)


def result_of(tree):
    (found,) = make_tested(read_results(tree.output))
    return found


def add_run(tree, predicted, seed=1, **run) -> str:
    path = f"runs/{run.get('trainer', 'CoOp')}/{seed}"
    tree.run("", at=path, classes="all", seed=seed, **run)
    tree.predictions(path, predicted)
    return path


def test_accuracy_of_each_class_over_all_runs(tree):
    add_run(tree, [CAT, DOG, OWL, CAT, DOG, OWL])
    add_run(tree, [CAT, DOG, CAT, OWL, DOG, CAT], seed=2)
    found = result_of(tree)
    assert found.title == "demo, all classes, 16 shots, demo:vit-student" and found.rows == ["CoOp"]
    assert found.classes == [("owl", 2, [50.0]), ("cat", 2, [75.0]), ("dog", 2, [100.0])]
    ((row, values),) = found.scores
    scores = dict(zip(SCORES, values, strict=True))
    assert row == "CoOp" and scores["ECE %"] == ("5.00", 5.0) and scores["NLL"] == ("-", None)
    (matrix,) = found.matrices
    assert matrix.note == "Most frequent: owl as cat (2), cat as owl (1)."
    assert matrix.alternative == "Confusion matrix of CoOp: 9 of 12 images correct"
    assert "CoOp: expected calibration error 0.00 %" in found.calibration.alternative  # 75 % correct, 0.75 confident


def test_rows_are_compared_on_the_same_classes(tree):
    add_run(tree, [CAT, CAT, CAT])
    add_run(tree, [CAT, DOG, CAT], trainer="MaPLe")
    tree.run("train_all", trainer="VPT", classes="all")  # of an older version, without scores
    found = result_of(tree)
    assert found.rows == ["CoOp", "MaPLe"]
    assert found.classes == [("owl", 1, [0.0, 0.0]), ("dog", 1, [0.0, 100.0]), ("cat", 1, [100.0, 100.0])]


def test_halves_and_targets_have_sections_of_their_own(tree):
    key = tree.pair(80.0, 60.0)
    for part in ("train_base", "test_new"):
        tree.predictions(f"base2new/{part}/demo/shots_16/CoOp/demo/seed1", [CAT, DOG])
    key = tree.run("", at="all", classes="all")
    tree.run("", at="target", dataset="food101", source="demo", classes="all", tests=key)
    for path in ("all", "target"):
        tree.predictions(path, [CAT, DOG])
    assert [one.title.rpartition(",")[0] for one in make_tested(read_results(tree.output))] == [
        "food101, all classes, 16 shots, trained on demo", "demo, all classes, 16 shots",
        "demo, base classes, 16 shots", "demo, new classes, 16 shots",
    ]  # fmt: skip


@pytest.mark.parametrize("place", ["predictions.csv", "evaluation/test_images/predictions.csv"])
def test_most_confident_mistakes(tree, place):
    """With the probabilities of all classes from a run, or that of the prediction from an evaluation."""
    path = add_run(tree, [CAT, DOG, OWL])
    rows = [("a.jpg", "cat", "cat", 0.9, 0.1), ("b.jpg", "cat", "dog", 0.4, 0.6), ("c.jpg", "dog", "cat", 0.8, 0.2)]
    file = tree.output / path / place
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as stream:
        if place == "predictions.csv":
            csv.writer(stream).writerows([("path", "label", "prediction", "cat", "dog"), *rows])
        else:
            evaluated = [(*row[:3], max(row[3:])) for row in rows]
            csv.writer(stream).writerows([("path", "label", "prediction", "probability"), *evaluated])
    first, second = result_of(tree).mistakes
    assert (first.path, first.label, first.classes[0]) == ("c.jpg", "dog", ("cat", pytest.approx(0.8)))
    assert (second.path, second.label, second.classes[0]) == ("b.jpg", "cat", ("dog", pytest.approx(0.6)))
    assert len(first.classes) == (2 if place == "predictions.csv" else 1)


@pytest.mark.parametrize("text", ["", "path,label\n", "path,label,prediction,cat\na,cat,dog,much\n", "\0\xff"])
def test_broken_predictions_are_left_out(tree, text):
    path = add_run(tree, [CAT, DOG, OWL])
    tree.write(f"{path}/predictions.csv", text)
    assert result_of(tree).mistakes == []


def test_images_of_mistakes(tree):
    """Those in the folder of the data set only."""
    values = {"DATASET.NAME": "Folder", "DATASET.ROOT": str(tree.output / "photos"), "DATASET.FOLDER": "",
              "INPUT.EXIF_ORIENTATION": True, "INPUT.WHITE_BACKGROUND": True}  # fmt: skip
    path = add_run(tree, [CAT, DOG, OWL], values=values)
    (tree.output / "photos").mkdir()
    for name in ("photos/in.png", "secret.png"):
        Image.fromarray(np.zeros((300, 20, 3), np.uint8)).save(tree.output / name)
    rows = "in.png,cat,dog,0.9\n../secret.png,cat,dog,0.8\nabsent.png,cat,dog,0.7\n"
    tree.write(f"{path}/predictions.csv", f"path,label,prediction,probability\n{rows}")
    write_report(tree.output)
    page = (tree.output / "report/report.html").read_text()
    assert page.count("data:image/jpeg") == 1 and "../secret.png" in page and "absent.png" in page
