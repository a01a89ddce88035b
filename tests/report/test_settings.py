"""Grouping by recorded settings, and selection of the runs that count as results."""

import shutil

import pytest

from fdbpl.report.report import read_results
from fdbpl.report.tables import make_sections

MANY = {f"TRAINER.COOP.KEY{key}": 1 for key in range(1, 9)}


def rows(tree) -> dict[str, dict[str, str]]:
    """{row: {column: text}} of all tables."""
    return {
        row.name: {column: cell.text for column, cell in zip(table.columns, row.cells, strict=True)}
        for section in make_sections(read_results(tree.output)) for table in section.tables for row in table.rows
    }  # fmt: skip


def problems(tree) -> dict[str, str]:
    return {problem.path: problem.reason for problem in read_results(tree.output).problems}


def train(tree, at: str, accuracy: float, seed: int = 1, **run) -> str:
    return tree.run("", at=at, accuracy=accuracy, seed=seed, **{"classes": "all", **run})


def on_images(images: int, sha256: str = "") -> dict:
    return {"protocol": {"test_images": images}, **({"tested": {"sha256": sha256}} if sha256 else {})}


def weights(digest: str) -> dict:
    return {"record": {"inputs": {"student": digest}}}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        pytest.param(
            [{"config": "demo+OPTIM.LR=0.001"}, {"config": "demo+OPTIM.LR=0.05"}, {"config": "demo+OPTIM.LR=0.05"}],
            {"CoOp (OPTIM.LR=0.001)": "60.00", "CoOp (OPTIM.LR=0.05)": "80.00 ± 0.00"},
            id="overrides",
        ),
        pytest.param(
            [{"values": {"OPTIM.LR": 0.001}}, {"values": {"OPTIM.LR": 0.05}}],
            {"CoOp (OPTIM.LR=0.001)": "60.00", "CoOp (OPTIM.LR=0.05)": "80.00"},
            id="configuration files",
        ),
        pytest.param(
            [{"epochs": 1, "seed": 1}, {"epochs": 2, "seed": 1}],
            {"CoOp (OPTIM.MAX_EPOCH=1)": "60.00", "CoOp (OPTIM.MAX_EPOCH=2)": "80.00"},
            id="one seed",
        ),
        pytest.param(
            [on_images(100), on_images(500)],
            {"CoOp (test images=100)": "60.00", "CoOp (test images=500)": "80.00"},
            id="numbers of test images",
        ),
        pytest.param(
            [on_images(9, "a" * 64) | weights("1" * 64), on_images(9)],
            {"CoOp": "70.00 ± 14.14"},
            id="digests of an older record are unknown",
        ),
        pytest.param(
            [on_images(9, "a" * 64) | weights("1" * 64), on_images(9, "b" * 64) | weights("2" * 64)],
            {
                f"CoOp (digest of test images={data * 8}, digest of weights={clip * 8})": accuracy
                for data, clip, accuracy in (("a", "1", "60.00"), ("b", "2", "80.00"))
            },
            id="digests of data and weights",
        ),
        pytest.param(
            [{"config": "demo+OPTIM.LR=0.05"}, {"values": {"OPTIM.LR": "0.05"}}],
            {"CoOp": "70.00 ± 14.14"},
            id="an override and a file with the same value",
        ),
        pytest.param(
            [{"config": "demo+REGIONS.CONTENT=topk:5"}, {"config": "demo+REGIONS.TARGET=topk:5"}],
            {"CoOp (REGIONS.TARGET=topk:5)": "70.00 ± 14.14"},
            id="a renamed key",
        ),
        pytest.param(
            [{"values": {"DATASET.ROOT": "here"}}, {"values": {"DATASET.ROOT": "there", "TRAIN.PRINT_FREQ": 5}}],
            {"CoOp": "70.00 ± 14.14"},
            id="paths and verbosity",
        ),
    ],
)
def test_rows_are_settings(tree, runs, expected):
    for number, (accuracy, run) in enumerate(zip((60.0, 80.0, 80.0), runs, strict=False), start=1):
        train(tree, f"run{number}", accuracy, **{"seed": number, **run})
    assert {name: row["16 shots"] for name, row in rows(tree).items()} == expected
    assert not problems(tree)


def test_settings_per_data_set_and_shots_are_one_row(tree):
    for dataset, shots, epochs in (("demo", 1, 50), ("demo", 16, 200), ("demo_colours", 1, 5), ("demo_colours", 16, 9)):
        train(tree, f"{dataset}{shots}", 80.0, dataset=dataset, shots=shots, epochs=epochs)
    assert set(rows(tree)) == {"CoOp"}


def test_names_with_many_settings_are_short_and_distinct(tree):
    for number in (1, 2):
        values = dict.fromkeys(MANY, number)
        train(tree, f"run{number}", 80.0, values=values, config=f"demo+OPTIM.LR={number}")
    first, second = rows(tree)
    assert first != second and len(first) < 120


# selection of tests --------------------------------------------------------------------------------------------------


def test_tests_with_conflicting_results_are_excluded(tree):
    key = tree.run("base2new/train_base", accuracy=80.0)
    for at, accuracy, size in (("a_try", 73.0, 1), ("test_new", 74.0, 2)):
        tree.run("", at=at, classes="new", tests=key, accuracy=accuracy, values={"INPUT.SIZE": size})
    assert not rows(tree)
    found = problems(tree)
    assert set(found) == {"a_try", "test_new"}
    assert "73.00 with INPUT.SIZE=1" in found["a_try"] and "test_new (74.00 with INPUT.SIZE=2)" in found["a_try"]


def test_settings_of_a_test_are_part_of_the_row_name(tree):
    key = tree.run("base2new/train_base", accuracy=80.0)
    values = {"TRAINER.FDBPL.TEST_LOGITS": "positive", "OPTIM.LR": 3}  # OPTIM has no effect on a test
    tree.run("base2new/test_new", classes="new", tests=key, accuracy=60.0, values=values)
    assert list(rows(tree)) == ["CoOp (test TRAINER.FDBPL.TEST_LOGITS=positive)"]


@pytest.mark.parametrize("half", ["base", "all"])
def test_trainings_with_a_validation_accuracy_are_excluded(tree, half):
    key = train(tree, "base", 80.0, classes=half, values={"TEST.SPLIT": "val"})
    tree.run("", at="new", classes="new", tests=key, accuracy=60.0)
    assert not rows(tree) and "validation images" in problems(tree)["base"]


def classes(*names: str) -> dict:
    return {"protocol": {"classnames": list(names)}}


@pytest.mark.parametrize(
    ("training", "test", "words"),
    [
        (classes("cat", "dog"), classes("dog", "owl"), "'dog' as a new class"),
        (weights("1"), {"backbone": "elsewhere/the_same.pt", **weights("1")}, ""),
        (weights("1"), {"backbone": "elsewhere/the_same.pt", **weights("2")}, "other weights"),
        ({}, {"backbone": "demo:rn-student"}, "with the backbone demo:rn-student"),
        ({}, {"epoch": 5}, "epoch 5 of 10"),
        ({}, {"epoch": 10}, ""),
        ({}, {"values": {"TEST.SPLIT": "val"}}, "validation images"),
    ],
)
def test_tests_that_do_not_fit_their_training_are_excluded(tree, training, test, words):
    key = tree.run("base2new/train_base", accuracy=80.0, **training)
    tree.run("", at="test_new", classes="new", tests=key, accuracy=74.0, **test)
    if words:
        assert not rows(tree) and words in problems(tree)["test_new"]
    else:
        assert rows(tree)["CoOp"]["new"] == "74.00" and not problems(tree)


# repetitions ---------------------------------------------------------------------------------------------------------


def test_repetitions_with_different_results_are_excluded(tree):
    same = {"record": {"fingerprint": "same"}}
    train(tree, "a", 80.0, **same)
    train(tree, "b", 81.0, **same)
    assert not rows(tree)
    assert "81.00" in problems(tree)["a"] and "80.00" in problems(tree)["b"]


def test_a_finished_repetition_counts(tree):
    same = {"record": {"fingerprint": "same"}}
    tree.run("", at="a", accuracy=None, classes="all", **same)
    train(tree, "b", 81.0, **same)
    assert rows(tree)["CoOp"]["16 shots"] == "81.00"


def test_a_copied_folder_counts_once(tree):
    tree.pair(80.0, 60.0)
    shutil.copytree(tree.output / "base2new", tree.output / "copy")
    assert rows(tree)["CoOp"]["runs"] == "1"
    assert "repeats base2new/train_base" in problems(tree)["copy/train_base/demo/shots_16/CoOp/demo/seed1"]


def test_runs_without_a_seed_are_distinct(tree):
    for name, base, new in (("a", 80.0, 60.0), ("b", 82.0, 64.0)):
        record = {"fingerprint": "same", "started": f"when {name} began"}
        tree.run("", at=f"chance/{name}", accuracy=base, seed=-1, record=record)
        command = ["train.py", "--model-dir", f"output/chance/{name}"]
        tree.run("", at=f"tests/{name}", classes="new", tests="same", accuracy=new, seed=-1,
                 record={"command": command, "fingerprint": f"test of {name}"})  # fmt: skip
    assert (rows(tree)["CoOp"]["base"], rows(tree)["CoOp"]["new"]) == ("81.00 ± 1.41", "62.00 ± 2.83")
    assert not problems(tree)
    shutil.copytree(tree.output / "chance/a", tree.output / "chance/copy")
    assert rows(tree)["CoOp"]["runs"] == "2" and set(problems(tree)) == {"chance/copy"}
