"""`bash scripts/base2new_train.sh` and its siblings, as users type them."""

import json
import re

import pytest

SHORT = ("OPTIM.MAX_EPOCH", 3)
LINE = r"(\w+) demo seed(\d+): base (\d+\.\d\d) new (\d+\.\d\d) H (\d+\.\d\d)"


@pytest.fixture(scope="module")
def default_run(scripts) -> list[str]:
    return scripts.succeed("base2new_train.sh")


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_default_run_ends_with_its_result(scripts, default_run):
    trainer, seed, base, new, h = re.fullmatch(LINE, default_run[-1]).groups()
    base_run, new_run = (metrics(scripts.folder(part, "FDBPL")) for part in ("train_base", "test_new"))
    assert (trainer, seed) == ("FDBPL", "1")
    assert f"{base_run['accuracy']:.2f}" == base and f"{new_run['accuracy']:.2f}" == new
    assert float(h) == pytest.approx(2 / (1 / base_run["accuracy"] + 1 / new_run["accuracy"]), abs=0.005)
    assert min(base_run["accuracy"], new_run["accuracy"]) > 70  # a collapsed seed stays near 65


def test_the_run_folder_explains_itself(scripts, default_run):
    folder = scripts.folder("train_base", "FDBPL")
    run = metrics(folder)
    assert run["protocol"]["shots"] == 16 and len(run["protocol"]["classnames"]) == 14
    assert run["protocol"]["train_images"] == 14 * 16
    assert run["macro_f1"] > 0 and run["peak_memory_mib"]["host"] > 100 and run["seconds"]["total"] > 0
    assert {"config.yaml", "run.json", "metrics.json", "done.json", "log.txt"} <= {
        file.name for file in folder.iterdir()
    }
    for learner in ("prompt_learner", "negative_prompt_learner"):
        pointer = (folder / learner / "checkpoint").read_text().strip()
        assert (folder / learner / pointer).is_file()


def test_the_log_reads_as_the_field_parses_it(scripts, default_run):
    for part, signal in (("train_base", "Finish training"), ("test_new", "=> result")):
        folder = scripts.folder(part, "FDBPL")
        lines = (folder / "log.txt").read_text().splitlines()
        after = lines[lines.index(signal) :]
        accuracies = [match[1] for line in after if (match := re.search(r"\* accuracy: ([\.\deE+-]+)%", line))]
        assert float(accuracies[-1]) == pytest.approx(metrics(folder)["accuracy"], abs=0.051)


def test_a_finished_run_is_not_run_again(scripts, default_run):
    checkpoint = scripts.folder("train_base", "FDBPL") / "done.json"
    before = checkpoint.stat().st_mtime_ns
    assert scripts.succeed("base2new_train.sh")[-1] == default_run[-1]
    assert checkpoint.stat().st_mtime_ns == before


def test_a_second_seed_shares_the_bank(scripts, default_run):
    (bank,) = (scripts.output / "regions" / "demo").iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in bank.glob("*.safetensors")}
    scripts.succeed("base2new_train.sh", "demo", 2, "FDBPL", *SHORT)
    after = {file.name: file.stat().st_mtime_ns for file in bank.glob("*.safetensors")}
    assert before.items() < after.items()
    drawn = [json.loads(file.read_text())["train"] for file in scripts.data.rglob("shot_16-seed_*.json")]
    first, second = ({image[0] for image in images} for images in drawn)
    assert first & second and first - second


@pytest.mark.parametrize(("trainer", "overrides"), [("CoOp", SHORT), ("CoOp_KDPL", SHORT), ("ZeroshotCLIP", ())])
def test_baselines_run_through_the_same_script(scripts, default_run, trainer, overrides):
    last = scripts.succeed("base2new_train.sh", "demo", 1, trainer, *overrides)[-1]
    assert re.fullmatch(LINE, last)[1] == trainer
    config = "demo" + "".join(f"+{key}={value}" for key, value in [overrides] if overrides) if overrides else "demo"
    assert metrics(scripts.folder("test_new", trainer, config))["accuracy"] > 3 * 100 / 14


def test_two_processes_give_the_same_run(scripts, default_run):
    """NPROC=2: torchrun; one log, one set of checkpoints."""
    runs = {}
    for processes, settings in (("1", SHORT), ("2", (*SHORT, "TRAIN.PRINT_FREQ", 1))):
        scripts.succeed("base2new_train.sh", "demo", 1, "FDBPL", *settings, NPROC=processes)
        name = "+".join(["demo", *(f"{key}={value}" for key, value in zip(settings[::2], settings[1::2], strict=True))])
        runs[processes] = [scripts.folder(part, "FDBPL", name) for part in ("train_base", "test_new")]
    for single, double in zip(runs["1"], runs["2"], strict=True):
        assert (metrics(single)["processes"], metrics(double)["processes"]) == (1, 2)
        assert metrics(single)["accuracy"] == pytest.approx(metrics(double)["accuracy"], abs=0.3)
    log = (runs["2"][0] / "log.txt").read_text()
    assert log.count("epoch [3/3] batch [7/7]") == 1 and log.count("Checkpoint saved to") == 2


def test_test_script_repeats_the_base_accuracy(scripts, default_run):
    scripts.succeed("base2new_test.sh", "demo", 1, "FDBPL", SUB="base")
    again, trained = metrics(scripts.folder("test_base", "FDBPL")), metrics(scripts.folder("train_base", "FDBPL"))
    assert again["accuracy"] == trained["accuracy"] and again["macro_f1"] == trained["macro_f1"]


def test_looked_up_features_and_the_tower_in_the_loop_agree(scripts, default_run):
    accuracies = []
    for features in (True, False):
        overrides = ("OPTIM.MAX_EPOCH", 2, "REGIONS.CACHE_STUDENT_FEATURES", features)
        scripts.succeed("base2new_train.sh", "demo", 1, "FDBPL", *overrides)
        config = f"demo+OPTIM.MAX_EPOCH=2+REGIONS.CACHE_STUDENT_FEATURES={features}"
        accuracies.append(metrics(scripts.folder("train_base", "FDBPL", config))["accuracy"])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.5)


def test_photographs(scripts, photographs, tmp_path):
    scripts = type(scripts)(tmp_path, data=photographs)
    arguments = ("caltech101", 1, "FDBPL", "OPTIM.MAX_EPOCH", 2, "REGIONS.PER_IMAGE", 2)
    last = scripts.succeed("base2new_train.sh", *arguments, SHOTS="1", CFG="demo")[-1]
    assert re.fullmatch(LINE.replace("demo", "caltech101"), last)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (("dmeo",), {}, "'dmeo' is not a data set"),
        (("demo", 1, "CoOp", "OPTIM.LRR", 1), {}, "did you mean OPTIM.LR"),
        (("demo", 1, "CoOp", "TRAINER.COOP.PREC", "fp16"), {"CUDA_VISIBLE_DEVICES": ""}, "fp16.*GPU|GPU.*fp16"),
        (("caltech101", 1, "CoOp"), {"DATA": "/nowhere", "STUDENT": "demo"}, "/nowhere"),
    ],
)
def test_a_mistake_ends_in_one_line(scripts, arguments, environment, message):
    run = scripts.run("base2new_train.sh", *arguments, **environment)
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode == 2 and "Traceback" not in run.stderr, run.stderr
    assert len(errors) == 1 and re.search(message, errors[0]), run.stderr


def test_learning_from_all_classes_is_a_result_of_its_own(scripts, tmp_path):
    """One training on all images of all classes, and a test on each half."""
    run = type(scripts)(tmp_path, data=scripts.data)
    arguments, settings = ("demo", 1, "ZeroshotCLIP"), {"LEARN": "all", "SHOTS": "-1"}
    lines = run.succeed("base2new_train.sh", *arguments, **settings)
    assert "trains on all images of each class, with all class names" in lines[0]
    base, new, h = re.fullmatch(
        r"ZeroshotCLIP demo seed1 \(learnt from all classes\): base ([\d.]+) new ([\d.]+) H ([\d.]+)", lines[-1]
    ).groups()
    part = "demo/shots_-1/ZeroshotCLIP/demo/seed1"
    halves = [metrics(run.output / "base2new_all" / f"test_{half}" / part) for half in ("base", "new")]
    trained = metrics(run.output / "train_all" / part)
    assert [f"{half['accuracy']:.2f}" for half in halves] == [base, new] and not (run.output / "base2new").exists()
    assert trained["protocol"]["classnames"] == [name for half in halves for name in half["protocol"]["classnames"]]


def test_testing_what_was_never_trained(scripts, tmp_path):
    run = type(scripts)(tmp_path, data=scripts.data).run("base2new_test.sh", "demo", 1, "CoOp")
    assert run.returncode == 2 and "Traceback" not in run.stderr and "train_base" in run.stderr


def test_two_calls_at_once_train_once(scripts, default_run):
    arguments = ("demo", 1, "CoOp", "OPTIM.MAX_EPOCH", 4)
    calls = [scripts.start("base2new_train.sh", *arguments) for _ in range(2)]
    ends = [call.communicate(timeout=300) for call in calls]
    assert [call.returncode for call in calls] == [0, 0], ends
    outputs = [output for output, _ in ends]
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert sum(output.count("epoch [4/4] batch [5/7]") for output in outputs) == 1
    assert any("waiting for its end" in output or "is finished: accuracy" in output for output in outputs)
    folder = scripts.folder("train_base", "CoOp", "demo+OPTIM.MAX_EPOCH=4")
    assert not list(folder.glob("log.txt-*"))  # one attempt
