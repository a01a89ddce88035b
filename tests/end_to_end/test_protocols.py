"""`bash scripts/few_shot.sh` and the two protocols that test on other data sets."""

import json
import re
from statistics import fmean

import pytest

SHORT = ("OPTIM.MAX_EPOCH", 1)
NAME = "demo+OPTIM.MAX_EPOCH=1"


def folder(scripts, part, trainer="CoOp", shots=1):
    return scripts.output / part / "demo" / f"shots_{shots}" / trainer / NAME / "seed1"


def metrics(path):
    return json.loads((path / "metrics.json").read_text())


def done_markers(scripts):
    return {file: file.stat().st_mtime_ns for file in scripts.output.rglob("done.json")}


@pytest.fixture(scope="module")
def few_shot_run(scripts) -> list[str]:
    return scripts.succeed_here("few_shot.sh", "demo", 1, "CoOp", *SHORT, SHOTS="1 2")


def test_few_shots_of_all_classes(scripts, few_shot_run):
    line = "Few-shot: CoOp on demo, seed 1, trains on up to 1 2 images of each class.*all class names"
    assert re.match(line, few_shot_run[0])
    runs = [metrics(folder(scripts, "train_all", shots=shots)) for shots in (1, 2)]
    accuracies = [run["accuracy"] for run in runs]
    assert few_shot_run[-1] == "CoOp demo seed1: 1 shot {:.2f} 2 shots {:.2f}".format(*accuracies)
    assert [run["protocol"]["train_images"] for run in runs] == [28, 56]
    assert all(len(run["protocol"]["classnames"]) == 28 for run in runs)


def test_finished_shots_are_not_repeated(scripts, few_shot_run):
    before = done_markers(scripts)
    last = scripts.succeed_here("few_shot.sh", "demo", 1, "CoOp", *SHORT, SHOTS="2")[-1]
    assert last.startswith("CoOp demo seed1: 2 shots ")
    assert done_markers(scripts) == before


def test_other_data_sets_share_the_source_run(scripts, few_shot_run):
    """A target without data is named; the next protocol reuses the training and the finished tests."""
    before = done_markers(scripts)
    arguments = ("demo", 1, "CoOp", *SHORT)
    run = scripts.here("domain_generalization.sh", *arguments, SHOTS="1", TARGETS="caltech101 demo_corrupted")
    lines, errors = run.stdout.splitlines(), run.stderr.splitlines()
    shifted = metrics(folder(scripts, "evaluation/demo_corrupted"))
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert errors[-1].startswith("error: the folder of Caltech101")
    assert re.match("Domain generalization: CoOp on demo, seed 1, trains on up to 1 images of each class", lines[0])
    accuracy = f"{shifted['accuracy']:.2f}"
    assert lines[-1] == f"CoOp demo seed1 shots 1 -> demo_corrupted {accuracy} (not tested: caltech101)"
    assert len(done_markers(scripts)) == len(before) + 1

    lines = scripts.succeed_here("cross_dataset.sh", *arguments, SHOTS="1", TARGETS="demo_colours demo_corrupted")
    other = metrics(folder(scripts, "evaluation/demo_colours"))
    assert re.match("Cross-dataset: CoOp on demo, seed 1, .*; tests on all test images of demo_colours", lines[0])
    average = fmean([other["accuracy"], shifted["accuracy"]])
    assert lines[-1] == (
        f"CoOp demo seed1 shots 1 -> demo_colours {other['accuracy']:.2f} demo_corrupted {accuracy} "
        f"average {average:.2f}"
    )
    assert len(done_markers(scripts)) == len(before) + 2 and before.items() <= done_markers(scripts).items()
    source = json.loads((folder(scripts, "train_all") / "run.json").read_text())
    test = json.loads((folder(scripts, "evaluation/demo_colours") / "run.json").read_text())
    assert test["task"] == f"test {source['fingerprint']} epoch None"
    trained = metrics(folder(scripts, "train_all"))["protocol"]["classnames"]
    assert set(other["protocol"]["classnames"]).isdisjoint(trained)


def test_few_shots_with_a_region_bank(scripts):
    settings = (*SHORT, "REGIONS.PER_IMAGE", 2)
    last = scripts.succeed_here("few_shot.sh", "demo", 1, "FDBPL", *settings, SHOTS="1")[-1]
    assert re.fullmatch(r"FDBPL demo seed1: 1 shot \d+\.\d\d", last)
