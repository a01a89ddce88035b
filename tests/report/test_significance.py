"""Marks of significant differences, on runs and predictions with known effects."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fdbpl.errors import UserError
from fdbpl.report.predictions import read_predictions
from fdbpl.report.report import read_results, write_report
from fdbpl.report.significance import bootstrap, interval, t_test
from fdbpl.report.tables import make_sections

IMAGES = 1000


def store_predictions(folder, correct) -> None:
    labels = np.arange(len(correct)) % 2
    np.savez(folder / "confusion.npz", classnames=np.array(["cat", "dog"]), labels=labels,
             predictions=np.where(correct, labels, 1 - labels), confidences=np.full(len(labels), 0.9))  # fmt: skip


def add_run(tree, trainer, seed, rate, random, images="a", store=True) -> None:
    """A run that recognises each image with a probability of its own, on average `rate`.

    The images' difficulties are the same for every run on the same `images`.
    """
    difficulty = np.random.default_rng(sum(map(ord, images))).normal(size=IMAGES)
    correct = stats.norm.cdf(difficulty + 1.4 * stats.norm.ppf(rate)) > random.random(IMAGES)
    place = f"runs/{trainer}/{seed}/{images}"
    tree.run("", at=place, trainer=trainer, seed=seed, classes="all", accuracy=100 * correct.mean(),
             tested={"images": IMAGES, "sha256": images})  # fmt: skip
    if store:
        store_predictions(tree.output / place, correct)


def cells_of(tree, column="16 shots") -> dict:
    (section,) = make_sections(read_results(tree.output))
    (table,) = section.tables
    return {row.name: row.cells[table.columns.index(column)] for row in table.rows}


def test_two_runs_that_differ_by_chance_are_not_marked(tree):
    """Two methods with equal probabilities; 5 % of such pairs may be marked by definition."""
    marked = 0
    for number in range(20):
        random = np.random.default_rng(number)
        tree.output = tree.output.parent / f"output{number}"
        for trainer in ("CoOp", "MaPLe"):
            add_run(tree, trainer, 1, 0.8, random)
        marked += any(cell.lower for cell in cells_of(tree).values())
    assert marked <= 3


@pytest.mark.parametrize("seeds", [1, 3])
def test_two_methods_that_differ_are_marked(tree, seeds):
    random = np.random.default_rng(0)
    for seed in range(seeds):
        add_run(tree, "CoOp", seed, 0.7, random)
        add_run(tree, "MaPLe", seed, 0.8, random)
    cells = cells_of(tree)
    assert (cells["CoOp"].lower, cells["MaPLe"].lower) == ("↓", "")
    difference = cells["CoOp"].difference
    assert difference.runs == seeds and difference.points == cells["MaPLe"].value - cells["CoOp"].value
    assert difference.over_images < 0.01 and (difference.over_runs is None) == (seeds == 1)


def test_methods_that_scatter_over_seeds_are_not_marked(tree):
    """Large differences on the same images that change their sign with the seed."""
    random = np.random.default_rng(0)
    for seed, (one, other) in enumerate(((0.6, 0.9), (0.9, 0.7), (0.7, 0.9))):
        add_run(tree, "CoOp", seed, one, random)
        add_run(tree, "MaPLe", seed, other, random)
    cells = cells_of(tree)
    assert cells["CoOp"].lower == "" and cells["CoOp"].difference.over_images < 0.01


def test_predictions_on_other_images_are_not_compared(tree):
    random = np.random.default_rng(0)
    add_run(tree, "CoOp", 1, 0.5, random, images="a")
    add_run(tree, "MaPLe", 1, 0.9, random, images="b")
    assert cells_of(tree)["CoOp"].difference.over_images is None and cells_of(tree)["CoOp"].lower == ""


def test_runs_without_predictions_or_with_other_seeds(tree):
    random = np.random.default_rng(0)
    for seed in (1, 2, 3):
        add_run(tree, "CoOp", seed, 0.5, random, store=False)
        add_run(tree, "MaPLe", seed, 0.9, random)
        add_run(tree, "VPT", seed + 3, 0.5, random)
    cells = cells_of(tree)
    assert cells["CoOp"].difference.over_images is None and cells["CoOp"].lower == "↓"
    assert cells["VPT"].difference is None and cells["VPT"].lower == ""


def test_h_is_compared_over_images_of_both_halves(tree):
    for trainer, base, new in (("CoOp", 0.8, 0.5), ("MaPLe", 0.8, 0.7), ("VPT", 0.8, 0.69)):
        tree.pair(100 * base, 100 * new, trainer=trainer)
        for part, rate in (("train_base", base), ("test_new", new)):
            folder = tree.output / f"base2new/{part}/demo/shots_16/{trainer}/demo/seed1"
            store_predictions(folder, np.arange(IMAGES) < rate * IMAGES)
    cells = cells_of(tree, "H")
    assert [cells[name].lower for name in ("CoOp", "MaPLe", "VPT")] == ["↓", "", "↓"]  # the same images: 10 only VPT
    assert cells_of(tree, "base")["MaPLe"].difference.over_images == 1


def test_t_test_of_one_data_set_is_that_of_scipy():
    random = np.random.default_rng(0)
    one, other = random.normal(0.5, 1, 9), random.normal(0, 1, 9)
    assert t_test({"dtd": one - other}) == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-12)
    assert t_test({"dtd": one, "ucf101": other[:1]}) is None
    assert t_test({"dtd": np.array([1.0, 1.0])}) == 0 and t_test({"dtd": np.zeros(2)}) == 1


def test_rate_of_false_marks():
    """p of true null hypotheses is uniform, over runs on three data sets and over test images."""
    random = np.random.default_rng(0)
    runs = [t_test({name: random.normal(size=3) for name in "abc"}) for _ in range(500)]
    images = [bootstrap([[(1.0, random.multinomial(300, [0.1, 0.2, 0.2, 0.5]).reshape(2, 2))]]) for _ in range(300)]
    for found in (runs, images):
        assert 0.02 < np.mean(np.array(found) < 0.05) < 0.08
        assert 0.4 < np.mean(found) < 0.6


def test_bootstrap_agrees_with_resampled_images():
    random = np.random.default_rng(1)
    results = random.random((200, 2)) < (0.75, 0.68)
    drawn = results[random.integers(0, 200, (20_000, 200))].mean(axis=1)
    difference = pd.Series(drawn[:, 0] - drawn[:, 1])
    expected = 2 * min((difference <= 0).mean(), (difference >= 0).mean())
    counts = np.bincount(results @ [2, 1], minlength=4).reshape(2, 2)
    assert bootstrap([[(1.0, counts)]]) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("damage", ["text", "pickle", "range", "shape", "dimensions", "bytes"])
def test_broken_predictions_are_not_read(tree, damage):
    tree.run("", at="run", classes="all")
    file, labels = tree.output / "run/confusion.npz", np.arange(4) % 2
    content = {"classnames": np.array(["cat", "dog"]), "labels": labels, "predictions": labels,
               "confidences": np.ones(4)}  # fmt: skip
    changes = {
        "pickle": {"labels": np.array([None] * 4)},
        "range": {"labels": labels + 1},
        "shape": {"labels": labels[:3]},
        "dimensions": {name: content[name].reshape(2, 2) for name in ("labels", "predictions", "confidences")},
    }
    content |= changes.get(damage, {})
    np.savez_compressed(file, **content)
    if damage == "text":
        file.write_text("no archive")
    if damage == "bytes":
        content = bytearray(file.read_bytes())
        content[60:90] = bytes(30)
        file.write_bytes(content)
    assert read_predictions(tree.output / "run") is None


def test_interval_of_one_data_set_is_that_of_scipy():
    differences = np.random.default_rng(3).normal(0.3, size=9)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert interval({"caltech101": differences}) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert interval({"caltech101": differences, "dtd": differences[:1]}) is None


@pytest.mark.parametrize("of", [["caltech101"], ["caltech101", "dtd"]])
def test_differences_from_a_row(tree, of):
    """Runs are paired by seed, of which one has no partner."""
    values = {"CoOp": [70.0, 72.0, 74.0, 1.0], "MaPLe": [71.0, 74.0, 74.0]}
    for dataset in of:
        for trainer, accuracies in values.items():
            for seed, accuracy in enumerate(accuracies):
                tree.run("", at=f"{dataset}/{trainer}/{seed}", trainer=trainer, dataset=dataset, seed=seed,
                         classes="all", accuracy=accuracy, config=f"demo+OPTIM.LR={len(trainer)}")  # fmt: skip
    (section,) = make_sections(read_results(tree.output), reference="CoOp")
    table = next(table for table in section.tables if "differences" in table.title)
    ((name, (pairs, cell)),) = [(row.name, row.cells) for row in table.rows]
    low, high = interval({dataset: np.array([1.0, 2.0, 0.0]) for dataset in of})
    assert (name, pairs.value) == ("MaPLe (OPTIM.LR=5)", 3 * len(of))
    assert cell.text == f"+1.00 [{low:+.2f}, {high:+.2f}]"


def test_differences_from_no_row(tree):
    tree.run("", at="run", trainer="CoOp", classes="all")
    with pytest.raises(UserError, match="no row 'MaPLe'. The rows are CoOp"):
        write_report(tree.output, gallery=False, reference="MaPLe")
