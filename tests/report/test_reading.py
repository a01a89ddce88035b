"""Reading of run folders and plans: missing results, broken files, logs of other code bases."""

import os

import pytest

from fdbpl.report.report import read_results
from fdbpl.report.runs import read_runs
from fdbpl.report.tables import make_sections
from fdbpl.runs.dassl_log import parse_log


def missing(tree) -> dict[str, tuple[str, str]]:
    return {one.what.split(" (")[0]: (one.state, one.reason) for one in read_results(tree.output).missing}


def problems(tree) -> dict[str, str]:
    return {one.path: one.reason for one in read_results(tree.output).problems}


def number_of_runs(tree) -> str:
    (section,) = make_sections(read_results(tree.output))
    return section.tables[0].rows[0].cells[0].text


def test_missing_results_of_a_plan(tree):
    for seed in (1, 2):
        tree.pair(80.0, 60.0, seed=seed)
    tree.pair(None, None, seed=3, log=tree.epoch_lines(10, 4))
    tree.pair(80.0, None, seed=4)
    status = {1: "done", 6: "failed", 7: "done"}
    for seed in range(1, 8):
        tree.plan(seed=seed, status=status.get(seed, "planned"), reason="error: the disk is full" * (seed == 6))
    assert missing(tree) == {
        "CoOp, demo, 16 shots, seed 3": ("unfinished", "at epoch 4 of 10"),
        "CoOp, demo, 16 shots, seed 4": ("unfinished", "in its test"),
        "CoOp, demo, 16 shots, seed 5": ("planned", "not run yet"),
        "CoOp, demo, 16 shots, seed 6": ("failed", "error: the disk is full"),
        "CoOp, demo, 16 shots, seed 7": ("planned", "marked as done, but its run is not here"),
    }
    assert number_of_runs(tree) == "2 of 7"


def test_missing_results_without_a_plan(tree):
    tree.pair(80.0, 60.0)
    tree.run("base2new/train_base", seed=2, accuracy=None, log="Loading CLIP\n")
    tree.run("base2new/train_base", seed=3)
    assert missing(tree) == {
        "CoOp, demo, 16 shots, seed 2": ("unfinished", "in its first epoch"),
        "CoOp, demo, 16 shots, seed 3": ("unfinished", "trained, not tested on the new classes yet"),
    }
    assert number_of_runs(tree) == "1 of 3"


def test_missing_tests_of_a_training_on_all_classes(tree):
    key = tree.run("train_all", classes="all")
    tree.run("evaluation/food101", dataset="food101", source="demo", classes="all", tests=key)
    tree.run("base2new_all/test_base", classes="base", tests=key)
    tree.plan("cross_dataset", targets=["food101", "dtd", "ucf101"], status="planned")
    tree.plan("base2new_all")
    reasons = {one.protocol: one.reason for one in read_results(tree.output).missing}
    assert reasons == {
        "cross_dataset": "trained; no test on dtd, ucf101",
        "base2new_all": "trained, not tested on the new classes yet",
    }


def test_broken_files_are_reported_and_the_rest_is_read(tree):
    tree.pair(80.0, 60.0)
    files = {
        "half/run.json": '{"config": ', "list/run.json": "[]", "other/run.json": {"fingerprint": 1},
        "bare/metrics.json": {"accuracy": 50}, "deep/run.json": "[" * 100_000, "noise/log.txt": "hello\n",
        "grid.json": {"cells": [1, {"protocol": "base2new"}]},
    }  # fmt: skip
    for path, content in files.items():
        tree.write(path, content)
    (tree.output / "binary").mkdir()
    (tree.output / "binary/log.txt").write_bytes(b"\xff\x00" * 99)
    wrong = "base2new/train_base/demo/shots_16/CoOp/demo/seed"
    for seed, content in ((7, {"accuracy": 1e9}), (8, {"accuracy": "x"}), (9, [])):
        tree.run("base2new/train_base", seed=seed)
        tree.write(f"{wrong}{seed}/metrics.json", content)
    tree.run("base2new/train_base", seed=6)
    tree.write(f"{wrong}6/done.json", {"fingerprint": "another"})
    found = problems(tree)
    folders = {path.partition("/")[0] for path in files}
    assert set(found) == {*folders, "binary", *(f"{wrong}{seed}" for seed in (6, 7, 8, 9))}
    assert "no header `** Arguments **`" in found["noise"] and "run.json" in found["bare"]
    assert "two different runs" in found[f"{wrong}6"]
    assert number_of_runs(tree) == "1"


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": 3}'])
def test_a_broken_plan_is_reported(tree, content):
    tree.pair(80.0, 60.0)
    tree.write("grid.json", content)
    assert list(problems(tree)) == ["grid.json"]


@pytest.mark.parametrize("end", ["Finish training", "Finished training"])
def test_logs_of_other_code_bases(tree, end):
    for seed in (1, 2):
        tree.log(f"train/seed{seed}", seed=seed, accuracy=f"8{seed}.5", end=end)
        tree.log(f"test/seed{seed}", seed=seed, accuracy=f"6{seed}.5", classes="new", load_epoch=50,
                 model_dir=f"output/train/seed{seed}")  # fmt: skip
    (section,) = make_sections(read_results(tree.output))
    row = section.tables[0].rows[0]
    assert row.name == "CoOp †" and [cell.text for cell in row.cells[:3]] == ["2", "82.0 ± 0.7", "62.0 ± 0.7"]
    assert any("one decimal" in note for note in section.notes)
    assert not problems(tree) and not missing(tree)


def test_a_log_of_a_test_matches_its_training_in_a_moved_folder(tree):
    tree.log("a/seed1", accuracy="80.0")
    tree.log("b/seed1", accuracy="60.0", classes="new", model_dir="/home/somebody/else")
    assert len(read_results(tree.output).of("base2new")) == 1


def test_logs_of_zero_shot_clip_need_no_training(tree):
    for classes in ("base", "new"):
        file = tree.log(classes, trainer="ZeroshotCLIP", accuracy="70.0", classes=classes, model_dir="x")
        file.write_text(file.read_text().replace("model_dir: x", "model_dir: "))
    (one,) = read_results(tree.output).of("base2new")
    assert one.values["base"] == 70.0


def test_logs_without_a_result(tree):
    tree.log("stopped", accuracy=None, epochs=50, upto=7)
    tree.log("untested", seed=2, body=tree.epoch_lines(50, 50) + "Finish training\n")
    tree.log("odd", seed=3, body="Finish training\n* accuracy: many%\n")
    tree.log("lost", seed=4, classes="new", model_dir="/gone", dataset="dtd")
    tree.log("cut", seed=5).write_text("** Arguments **\ntrainer: CoOp\n")
    assert [reason for _, reason in missing(tree).values()] == [
        "trained, in its test", "at epoch 7 of 50", "trained, in its test"
    ]  # fmt: skip
    assert set(problems(tree)) == {"lost", "cut"} and "not below this folder" in problems(tree)["lost"]


def test_accuracies_before_the_end_of_training_are_ignored():
    header = ["** Arguments **", "eval_only: False", "** Config **", "SEED: 1", "Collecting env info ..."]
    body = ["* accuracy: 11.0%", "Finished training", "* accuracy: 22.0%", "* accuracy: 33.0%"]
    assert parse_log(header + body).accuracy == 33.0
    assert parse_log(header + body[:1]).accuracy is None


def test_losses_and_learning_rates_by_epoch():
    """With the last batch of an epoch Dassl prints the learning rate of the next one."""
    lines = [
        f"epoch [{epoch}/2] batch [{batch}/2] time 1 (1) loss 5.0 ({epoch}.{batch}) lr {epoch + batch - 1} eta 0"
        for epoch in (1, 2) for batch in (1, 2)
    ]  # fmt: skip
    log = parse_log(lines)
    assert log.losses == {1: 1.2, 2: 2.2} and log.rates == {1: 1.0, 2: 2.0}
    log = parse_log(lines[1::2])  # one batch per epoch: the rate of the first epoch is never printed
    assert log.rates == {2: 2.0}
    assert parse_log([lines[0].replace("(1.1)", "(nan)")]).losses == {}
    line = "epoch [1/9] batch [1/5] time 1 (1) data 1 (1) KL loss x 2.0 (3.0) loss 1.5 (1.25) lr 2e-3 eta 0:00:00"
    assert parse_log([line]).losses == {1: 1.25}


def test_cycles_of_links(tree):
    tree.pair(80.0, 60.0)
    os.symlink(tree.output, tree.output / "base2new/again")
    runs, _ = read_runs(tree.output)
    assert len(runs) == 2
