"""`python -m fdbpl.runs verify`: what it finds in folders that train.py left, in which words, with which exit code."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.runs.__main__ import main

from .conftest import TrainPy


@pytest.fixture(scope="module")
def made(cfg_in, tmp_path_factory) -> Path:
    """A training on base classes, its test on new ones, one with nothing to learn, and one that has not finished."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        run = TrainPy(cfg_in, folder, patch)
        base = run("CoOp", "base", **{"TRAIN.CHECKPOINT_FREQ": 1})
        run("CoOp", "new", "--eval-only", "--model-dir", base, **{"DATASET.SUBSAMPLE_CLASSES": "new"})
        run("ZeroshotCLIP", "zeroshot")
        begun = run("CoOp", "begun", **{"TRAIN.CHECKPOINT_FREQ": 1})
    for name in ("done.json", "metrics.json", "prompt_learner/model.pth.tar-2"):
        (begun / name).unlink()
    return folder


@pytest.fixture
def runs(made, tmp_path) -> Path:
    """A copy of them, to be spoilt."""
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def verify(monkeypatch, capsys):
    def verify(*places: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fdbpl.runs", "verify", *map(str, places)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return verify


def change(file: Path, act) -> None:
    content = json.loads(file.read_text())
    act(content)
    file.write_text(json.dumps(content))


def without_checksums(runs: Path) -> None:
    """As older code left them: what a checksum would find has to be found otherwise."""
    for done in runs.glob("*/done.json"):
        change(done, lambda content: content.pop("sha256"))


def test_runs_as_they_were_made(runs, verify):
    code, said = verify(runs)
    lines = {line.split(": ")[0].split("/")[-1]: line for line in said.splitlines()}
    assert code == 0 and set(lines) == {"base", "new", "zeroshot", "begun"} and said.count("ok    ") == 4
    assert "5 classes, prompt_learner of epoch 2, 3 checksums, the log's accuracy, accuracy " in lines["base"]
    assert f"a test of {runs / 'base'}" in lines["new"]  # the one beside it, wherever they were moved
    assert lines["begun"].endswith("prompt_learner of epoch 1, not finished yet")
    without_checksums(runs)
    assert verify(runs)[0] == 0


def test_a_place_without_runs(verify, tmp_path):
    code, said = verify(tmp_path / "nowhere")
    assert code == 2 and "expected run folders" in said and "check the path" in said


FILES = ["metrics.json", "config.yaml", "prompt_learner/model.pth.tar-2"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_of_what_was_left(runs, verify, name):
    file = runs / "base" / name
    good = bytearray(file.read_bytes())
    for place in torch.randint(len(good), (8,), generator=torch.Generator().manual_seed(0)).tolist():
        bad = bytearray(good)
        bad[place] ^= 1
        file.write_bytes(bad)
        code, said = verify(runs / "base")
        assert code == 1 and f"WRONG {runs / 'base'}: " in said, place


def accuracy(change_by: float):
    def act(metrics):
        metrics["accuracy"] += change_by
        metrics["error_rate"] -= change_by

    return act


CHANGES = {
    "a configuration that the fingerprint is not of": (
        "run.json", lambda record: record["config"]["OPTIM"].update(LR=0.5), "that run.json's fingerprint is of"),
    "another run's done marker": (
        "done.json", lambda done: done.update(fingerprint="f" * 64), "run.json and done.json of one run"),
    "fewer classes than were learnt": (
        "metrics.json", lambda metrics: metrics["protocol"]["classnames"].pop(), "expected 4 classes in .*found 5"),
    "no classes": (
        "metrics.json", lambda metrics: metrics["protocol"].update(classnames=[]), "a list of class names"),
    "another half": (
        "metrics.json", lambda metrics: metrics["protocol"].update(subsample="new"), "classes 'base' .* found 'new'"),
    "another seed": ("metrics.json", lambda metrics: metrics.update(seed=7), "expected seed 1 in .*found 7"),
    "an accuracy that the log does not have": ("metrics.json", accuracy(+0.2), "expected the accuracy .* of log.txt"),
    "numbers that do not add up": (
        "metrics.json", lambda metrics: metrics.update(error_rate=3.0), "of 100 % together"),
    "no fingerprint": ("run.json", lambda record: record.pop("fingerprint"), "expected fingerprint in run.json"),
    "a list for a configuration": ("run.json", lambda record: record.update(config=[]), "expected the files of a run"),
    "text for a number": ("metrics.json", lambda metrics: metrics.update(accuracy="high"), "the files of a run"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_records_that_contradict_each_other(runs, verify, name):
    import re

    without_checksums(runs)
    file, act, sentence = CHANGES[name]
    change(runs / "base" / file, act)
    code, said = verify(runs / "base")
    assert code == 1 and re.search(f"WRONG .*{sentence}", said), said


def test_a_record_that_is_no_json(runs, verify):
    (runs / "base/run.json").write_text("{")
    code, said = verify(runs)
    assert code == 1 and "expected the record of a run at" in said and said.count("ok    ") == 3


def checkpoints(act):
    """Write the last checkpoint again with something changed."""

    def acting(folder: Path) -> None:
        path = folder / "prompt_learner/model.pth.tar-2"
        content = checkpoint.read(path)
        act(content)
        torch.save(content, path)

    return acting


SPOILT = {
    "gone": (lambda folder: (folder / "prompt_learner/model.pth.tar-2").unlink(),
             "expected checkpoints of epoch 2, found prompt_learner of epoch 1"),
    "all gone": (lambda folder: shutil.rmtree(folder / "prompt_learner"), "checkpoints of what was learnt, found none"),
    "cut off": (lambda folder: (folder / "prompt_learner/model.pth.tar-2").write_bytes(b"PK"), "cannot be read safely"),
    "of another epoch": (checkpoints(lambda content: content.update(epoch=1)), "epoch 2 in .*found that of epoch 1"),
    "no number": (checkpoints(lambda content: content["state_dict"]["ctx"].fill_(torch.nan)), "found others in ctx"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_checkpoints_that_cannot_be_what_was_learnt(runs, verify, name):
    import re

    without_checksums(runs)
    act, sentence = SPOILT[name]
    act(runs / "base")
    code, said = verify(runs / "base")
    assert code == 1 and re.search(f"WRONG .*{sentence}", said), said


def test_a_learner_that_is_missing_is_known_by_its_checksum(runs, verify):
    shutil.rmtree(runs / "base/prompt_learner")
    change(runs / "base/metrics.json", lambda metrics: metrics.update(parameters=0))
    code, said = verify(runs / "base")
    assert code == 1 and "found other bytes" in said or "found none" in said


def test_a_test_of_another_training(runs, made, verify):
    shutil.rmtree(runs / "base")
    code, said = verify(runs / "new")
    assert code == 0 and f"a test of {made / 'base'}" in said  # where its command says
    change(runs / "new/run.json", lambda record: record["command"].__setitem__(-1, str(runs / "zeroshot")))
    code, said = verify(runs / "new")
    assert code == 1 and f"expected the run that it tested in {runs / 'zeroshot'}, found another one" in said
    change(runs / "new/run.json", lambda record: record["command"].__setitem__(-1, "/nowhere"))
    code, said = verify(runs / "new")
    assert code == 0 and "a test of a run that is not here (/nowhere)" in said


def test_new_classes_that_were_learnt(runs, verify):
    without_checksums(runs)
    learnt = json.loads((runs / "base/metrics.json").read_text())["protocol"]["classnames"]
    change(runs / "new/metrics.json", lambda metrics: metrics["protocol"]["classnames"].__setitem__(0, learnt[0]))
    code, said = verify(runs)
    assert code == 1 and f"it tests '{learnt[0]}' as a new class, which the training learned" in said


@pytest.mark.parametrize(
    ("file", "act", "words"),
    [
        ("metrics.json", lambda metrics: metrics["tested"].update(split="val"), "validation images"),
        ("run.json", lambda record: record["inputs"].update(student="f" * 64), "with other weights"),
    ],
)
def test_verification_and_report_leave_out_the_same_tests(runs, verify, file, act, words):
    from fdbpl.report.report import read_results

    assert len(read_results(runs).of("base2new")) == 1
    without_checksums(runs)
    change(runs / "new" / file, act)
    results = read_results(runs)
    assert not results.of("base2new") and any(words in problem.reason for problem in results.problems)
    assert words in verify(runs)[1]


def test_other_code_is_told_and_no_fault(runs, verify):
    change(runs / "base/run.json", lambda record: record["code"].update(commit="0" * 40, version="0.0.1"))
    code, said = verify(runs / "base")
    assert code == 0 and "note  " in said and "made by version 0.0.1 (here " in said and "commit 000000000000" in said


@pytest.mark.parametrize("changes", [{"code": "x"}, {"code": None}, {"packages": [1]}, {"code": {"commit": [1]}}])
def test_a_description_of_the_code_that_is_none(runs, verify, changes):
    """What made a run is not part of what it is."""
    change(runs / "base/run.json", lambda record: record.update(changes))
    code, said = verify(runs / "base")
    assert code == 0 and "ok    " in said and ("note  " in said) == (changes == {"code": {"commit": [1]}})
