"""Grouping by recorded settings, and selection of the runs that count as results."""

import shutil

import pytest

from fdbpl.report.report import read_results
from fdbpl.report.tables import make_sections


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


def test_different_overrides_are_different_rows(tree):
    train(tree, "a", 60.0, config="demo+OPTIM.LR=0.001")
    train(tree, "b", 80.0, seed=2, config="demo+OPTIM.LR=0.05")
    train(tree, "c", 82.0, seed=3, config="demo+OPTIM.LR=0.05")
    found = rows(tree)
    assert found["CoOp (OPTIM.LR=0.001)"] == {"runs": "1", "16 shots": "60.00"}
    assert found["CoOp (OPTIM.LR=0.05)"] == {"runs": "2", "16 shots": "81.00 ± 1.41"}
    assert not problems(tree)


def test_different_configuration_files_are_different_rows(tree):
    train(tree, "a", 60.0, values={"OPTIM.LR": 0.001})
    train(tree, "b", 80.0, seed=2, values={"OPTIM.LR": 0.05})
    train(tree, "c", 50.0, dataset="demo_colours", values={"OPTIM.LR": 0.05})
    assert set(rows(tree)) == {"CoOp (OPTIM.LR=0.001)", "CoOp (OPTIM.LR=0.05)"}


def test_several_settings_with_one_seed(tree):
    for at, accuracy, epochs in (("ep1", 61.0, 1), ("high", 82.0, 4), ("low", 70.0, 2)):
        train(tree, at, accuracy, epochs=epochs)
    assert {name: row["16 shots"] for name, row in rows(tree).items()} == {
        "CoOp (OPTIM.MAX_EPOCH=1)": "61.00", "CoOp (OPTIM.MAX_EPOCH=2)": "70.00", "CoOp (OPTIM.MAX_EPOCH=4)": "82.00",
    }  # fmt: skip
    assert not problems(tree)


def test_different_numbers_of_test_images_are_different_rows(tree):
    for seed, images in ((1, 500), (2, 100)):
        train(tree, f"run{seed}", 80.0, seed=seed, protocol={"test_images": images})
    assert {name: row["runs"] for name, row in rows(tree).items()} == {
        "CoOp (test images=100)": "1", "CoOp (test images=500)": "1",
    }  # fmt: skip


def test_digests_of_data_and_weights(tree):
    def tested(sha256):
        return {"protocol": {"test_images": 9}, **({"tested": {"images": 9, "sha256": sha256}} if sha256 else {})}

    train(tree, "a", 80.0, seed=1, record={"inputs": {"student": "1" * 64}}, **tested("a" * 64))
    train(tree, "old", 82.0, seed=2, **tested(""))
    assert rows(tree)["CoOp"]["16 shots"] == "81.00 ± 1.41"
    train(tree, "b", 60.0, seed=1, record={"inputs": {"student": "2" * 64}}, **tested("b" * 64))
    assert "CoOp (digest of test images=bbbbbbbb, digest of weights=22222222)" in rows(tree)
    assert {row["runs"] for row in rows(tree).values()} == {"1"} and not problems(tree)


def test_overrides_equal_settings_in_files(tree):
    train(tree, "a", 80.0, config="demo+OPTIM.LR=0.05")
    train(tree, "b", 82.0, seed=2, values={"OPTIM.LR": "0.05"})
    assert rows(tree)["CoOp"]["16 shots"] == "81.00 ± 1.41"


def test_renamed_keys_equal_their_old_names(tree):
    train(tree, "old", 80.0, config="demo+OPTIM.LR=0.05+REGIONS.CONTENT=topk:5")
    train(tree, "new", 82.0, seed=2, config="demo+OPTIM.LR=0.05+REGIONS.TARGET=topk:5")
    assert list(rows(tree)) == ["CoOp (OPTIM.LR=0.05, REGIONS.TARGET=topk:5)"]


def test_paths_and_verbosity_are_ignored(tree):
    train(tree, "a", 80.0, values={"DATASET.ROOT": "here", "TRAIN.PRINT_FREQ": 1})
    train(tree, "b", 82.0, seed=2, values={"DATASET.ROOT": "there", "TRAIN.PRINT_FREQ": 5})
    assert rows(tree)["CoOp"]["runs"] == "2"


def test_settings_per_data_set_and_shots_are_one_row(tree):
    for dataset, shots, epochs in (("demo", 1, 50), ("demo", 16, 200), ("demo_colours", 1, 5), ("demo_colours", 16, 9)):
        train(tree, f"{dataset}{shots}", 80.0, dataset=dataset, shots=shots, epochs=epochs)
    assert set(rows(tree)) == {"CoOp"}


def test_names_with_many_settings_are_short_and_distinct(tree):
    for number in (1, 2):
        values = {f"TRAINER.COOP.KEY{key}": number for key in range(1, 9)}
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


def test_a_test_on_validation_images_does_not_conflict(tree):
    key = tree.run("base2new/train_base", accuracy=80.0)
    tree.run("", at="a_try", classes="new", tests=key, accuracy=73.0, values={"TEST.SPLIT": "val"})
    tree.run("", at="test_new", classes="new", tests=key, accuracy=74.0)
    assert rows(tree)["CoOp"]["new"] == "74.00" and "validation images" in problems(tree)["a_try"]


def weights(digest: str) -> dict:
    return {"record": {"inputs": {"student": digest}}}


def classes(*names: str) -> dict:
    return {"protocol": {"classnames": list(names)}}


@pytest.mark.parametrize(
    ("training", "test", "words"),
    [
        (classes("cat", "dog"), classes("dog", "owl"), "'dog' as a new class"),
        (weights("1"), {"backbone": "elsewhere/the_same.pt", **weights("1")}, ""),
        (weights("1"), {"backbone": "elsewhere/the_same.pt", **weights("2")}, "other weights"),
        ({}, {"backbone": "demo:rn-student"}, "with the backbone demo:rn-student"),
    ],
)  # fmt: skip
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
