"""`bash scripts/few_shot.sh` and the two protocols that test on other data sets, as users type them."""

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


def marks(scripts):
    return {file: file.stat().st_mtime_ns for file in scripts.output.rglob("done.json")}


@pytest.fixture(scope="module")
def points(scripts) -> list[str]:
    return scripts.succeed("few_shot.sh", "demo", 1, "CoOp", *SHORT, SHOTS="1 2")


def test_few_shots_of_all_classes(scripts, points):
    line = "Few-shot: CoOp on demo, seed 1, trains on up to 1 2 images of each class.*all class names"
    assert re.match(line, points[0])
    runs = [metrics(folder(scripts, "train_all", shots=shots)) for shots in (1, 2)]
    accuracies = [run["accuracy"] for run in runs]
    assert points[-1] == "CoOp demo seed1: 1 shot {:.2f} 2 shots {:.2f}".format(*accuracies)
    assert [run["protocol"]["train_images"] for run in runs] == [28, 56]
    assert all(len(run["protocol"]["classnames"]) == 28 for run in runs)


def test_finished_points_are_not_learnt_again(scripts, points):
    before = marks(scripts)
    assert scripts.succeed("few_shot.sh", "demo", 1, "CoOp", *SHORT, SHOTS="2")[-1].startswith("CoOp demo seed1: 2 sho")
    assert marks(scripts) == before


def test_other_data_sets_share_the_source_run(scripts, points):
    """A target that is missing is said; the next protocol takes up the training and what was tested."""
    before = marks(scripts)
    arguments = ("demo", 1, "CoOp", *SHORT)
    run = scripts.run("domain_generalization.sh", *arguments, SHOTS="1", TARGETS="caltech101 demo_corrupted")
    lines, errors = run.stdout.splitlines(), run.stderr.splitlines()
    shifted = metrics(folder(scripts, "evaluation/demo_corrupted"))
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert errors[-1].startswith("error: the folder of Caltech101")
    assert re.match("Domain generalization: CoOp on demo, seed 1, trains on up to 1 images of each class", lines[0])
    accuracy = f"{shifted['accuracy']:.2f}"
    assert lines[-1] == f"CoOp demo seed1 shots 1 -> demo_corrupted {accuracy} (not tested: caltech101)"
    assert len(marks(scripts)) == len(before) + 1

    lines = scripts.succeed("cross_dataset.sh", *arguments, SHOTS="1", TARGETS="demo_colours demo_corrupted")
    other = metrics(folder(scripts, "evaluation/demo_colours"))
    assert re.match("Cross-dataset: CoOp on demo, seed 1, .*; tests on all test images of demo_colours", lines[0])
    average = fmean([other["accuracy"], shifted["accuracy"]])
    assert lines[-1] == (
        f"CoOp demo seed1 shots 1 -> demo_colours {other['accuracy']:.2f} demo_corrupted {accuracy} "
        f"average {average:.2f}"
    )
    assert len(marks(scripts)) == len(before) + 2 and before.items() <= marks(scripts).items()
    source = json.loads((folder(scripts, "train_all") / "run.json").read_text())
    test = json.loads((folder(scripts, "evaluation/demo_colours") / "run.json").read_text())
    assert test["task"] == f"test {source['fingerprint']} epoch None"
    learnt = metrics(folder(scripts, "train_all"))["protocol"]["classnames"]
    assert set(other["protocol"]["classnames"]).isdisjoint(learnt)


def test_a_method_that_reads_a_bank_goes_the_same_way(scripts):
    settings = (*SHORT, "REGIONS.PER_IMAGE", 2)
    last = scripts.succeed("few_shot.sh", "demo", 1, "FDBPL", *settings, SHOTS="1")[-1]
    assert re.fullmatch(r"FDBPL demo seed1: 1 shot \d+\.\d\d", last)
