"""`bash scripts/base2new_train.sh` with other trainers, settings, data sets and processes than the default."""

import json
import re

import pytest

SHORT = ("OPTIM.MAX_EPOCH", 3)
LINE = r"(\w+) demo seed(\d+): base (\d+\.\d\d) new (\d+\.\d\d) H (\d+\.\d\d)"


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize(("trainer", "overrides"), [("CoOp_KDPL", SHORT), ("ZeroshotCLIP", ())])
def test_other_trainers_run_through_the_same_script(scripts, trainer, overrides):
    last = scripts.succeed_here("base2new_train.sh", "demo", 1, trainer, *overrides, SHOTS="4")[-1]
    assert re.fullmatch(LINE, last)[1] == trainer
    config = "demo+OPTIM.MAX_EPOCH=3" if overrides else "demo"
    assert metrics(scripts.folder("test_new", trainer, config, shots=4))["accuracy"] > 3 * 100 / 14


def test_recommended_settings(scripts, tmp_path):
    """More steps than the paper at one shot, and a choice between learned and frozen text for the new classes only."""
    run = scripts.elsewhere(tmp_path)
    arguments = ("demo", 1, "FDBPL", *SHORT, "REGIONS.PER_IMAGE", 2)
    run.succeed_here("base2new_train.sh", *arguments, SHOTS="1", CFG="demo_recommended")
    config = "demo_recommended+OPTIM.MAX_EPOCH=3+REGIONS.PER_IMAGE=2"
    logs = [(run.folder(part, "FDBPL", config, shots=1) / "log.txt").read_text() for part in ("train_base", "test_new")]
    assert "/7]" in logs[0] and "were not trained" not in logs[0]
    assert "14 classes were not trained" in logs[1]


def test_photographs(scripts, photographs, tmp_path):
    scripts = type(scripts)(tmp_path, data=photographs)
    arguments = ("caltech101", 1, "FDBPL", "OPTIM.MAX_EPOCH", 2, "REGIONS.PER_IMAGE", 2)
    last = scripts.succeed_here("base2new_train.sh", *arguments, SHOTS="1", CFG="demo")[-1]
    assert re.fullmatch(LINE.replace("demo", "caltech101"), last)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("dmeo",), {}, "'dmeo' is not a data set"),
        (("demo", 1, "CoOp", "OPTIM.LRR", 1), {}, "did you mean OPTIM.LR"),
        (("demo", 1, "CoOp", "TRAINER.COOP.PREC", "fp16", "USE_CUDA", "False"), {}, "fp16.*GPU|GPU.*fp16"),
        (("caltech101", 1, "CoOp"), {"DATA": "/nowhere", "STUDENT": "demo"}, "/nowhere"),
    ],
)
def test_a_wrong_argument_ends_in_one_line(scripts, arguments, environment, message):
    run = scripts.here("base2new_train.sh", *arguments, **environment)
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2 and "Traceback" not in run.stderr, run.stderr
    assert len(errors) == 1 and re.search(message, errors[0]), run.stderr


def test_training_on_all_classes_is_a_separate_result(scripts, tmp_path):
    """LEARN=all: one training on all images of all classes, and a test on each half."""
    run = scripts.elsewhere(tmp_path)
    lines = run.succeed_here("base2new_train.sh", "demo", 1, "ZeroshotCLIP", LEARN="all", SHOTS="-1")
    assert "trains on all images of each class, with all class names" in lines[0]
    base, new, h = re.fullmatch(
        r"ZeroshotCLIP demo seed1 \(learned from all classes\): base ([\d.]+) new ([\d.]+) H ([\d.]+)", lines[-1]
    ).groups()
    part = "demo/shots_-1/ZeroshotCLIP/demo/seed1"
    halves = [metrics(run.output / "base2new_all" / f"test_{half}" / part) for half in ("base", "new")]
    trained = metrics(run.output / "train_all" / part)
    assert [f"{half['accuracy']:.2f}" for half in halves] == [base, new] and not (run.output / "base2new").exists()
    assert trained["protocol"]["classnames"] == [name for half in halves for name in half["protocol"]["classnames"]]


def test_a_test_without_its_training(scripts, tmp_path):
    run = scripts.elsewhere(tmp_path).here("base2new_test.sh", "demo", 1, "CoOp")
    assert run.returncode == 2 and "Traceback" not in run.stderr and "train_base" in run.stderr


def test_two_calls_at_once_train_once(scripts, tmp_path):
    scripts = scripts.elsewhere(tmp_path)
    calls = [scripts.start("few_shot.sh", "demo", 1, "CoOp", "OPTIM.MAX_EPOCH", 4, SHOTS="2") for _ in range(2)]
    ends = [call.communicate(timeout=300) for call in calls]
    assert [call.returncode for call in calls] == [0, 0], ends
    outputs = [output for output, _ in ends]
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert sum(output.count("epoch [4/4] batch [1/1]") for output in outputs) == 1
    assert any("waiting for its end" in output or "is finished: accuracy" in output for output in outputs)
    assert not list(scripts.output.rglob("log.txt-*"))  # one attempt
