"""Identity of a run: configuration, data, weights, seed and origin; weights of other runs are refused."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from fdbpl import export, predict
from fdbpl.engine import checkpoint
from fdbpl.engine.trained_run import TrainedRun
from fdbpl.errors import UserError
from fdbpl.runs.folder import fingerprint
from trainers.coop import CoOpStudent

from .conftest import TrainPy, tiny_clip_file
from .methods import same, stopped_in_epoch

EACH_EPOCH = {"TRAIN.CHECKPOINT_FREQ": 1}
NEW = {"DATASET.SUBSAMPLE_CLASSES": "new"}


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def as_older_version(folder: Path) -> None:
    """Remove records that older versions did not write."""
    record = record_of(folder)
    del record["inputs"]
    record["fingerprint"] = fingerprint(record["config"], record["task"])
    (folder / "run.json").write_text(json.dumps(record))
    done = json.loads((folder / "done.json").read_text())
    (folder / "done.json").write_text(json.dumps({**done, "fingerprint": record["fingerprint"]}))
    (folder / "attempts.json").unlink()


def remove(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


@pytest.fixture(scope="module")
def trained(cfg_in, tmp_path_factory) -> Path:
    """A CoOp run on the base classes: two epochs, each with a checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        return TrainPy(cfg_in, folder, patch)("CoOp", "base", **EACH_EPOCH)


@pytest.fixture
def base(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "base"))


@pytest.fixture
def run(train_py, capsys):
    """Return run(...), which returns a run folder; run.refused(...) returns the error message of a refused run."""

    def refused(*words, **overrides) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            train_py(*words, **overrides)
        message = capsys.readouterr().err
        assert ended.value.code == 2 and "Traceback" not in message
        return message

    train_py.refused = refused
    return train_py


# Testing --------------------------------------------------------------------------------------------------------------

TESTS = {
    "another method": ("KgCoOp", {}, "TRAINER.NAME 'CoOp' (here 'KgCoOp')"),
    "another method with the same prompts": ("CoOp_KDPL", {}, "TRAINER.NAME 'CoOp' (here 'CoOp_KDPL')"),
    "a method without weights": ("ZeroshotCLIP", {}, "TRAINER.NAME 'CoOp' (here 'ZeroshotCLIP')"),
    "another class position": (
        "CoOp", {"TRAINER.COOP.CLASS_TOKEN_POSITION": "front"}, "CLASS_TOKEN_POSITION 'end' (here 'front')"),
    "other pixels": ("CoOp", {"INPUT.INTERPOLATION": "bilinear"}, "INPUT.INTERPOLATION 'bicubic' (here 'bilinear')"),
    "pixels that are not normalised": ("CoOp", {"INPUT.TRANSFORMS": ("random_flip",)}, "INPUT.TRANSFORMS"),
}  # fmt: skip


@pytest.mark.parametrize("case", TESTS)
def test_weights_of_another_kind_are_not_tested(run, trained, case):
    trainer, overrides, message = TESTS[case]
    assert message in run.refused(trainer, "test", "--eval-only", "--model-dir", trained, **NEW, **overrides)
    assert not (run.folder / "test/metrics.json").exists()


def test_parameters_of_classes_are_not_used_for_other_classes(run, trained, monkeypatch):
    monkeypatch.setattr(CoOpStudent, "class_specific", True)
    message = run.refused("CoOp", "new", "--eval-only", "--model-dir", trained, **NEW)
    assert "DATASET.SUBSAMPLE_CLASSES 'base' (here 'new')" in message
    finished = TrainedRun(trained)
    assert finished.student(finished.classnames)
    with pytest.raises(UserError, match=r"parameters of its own \d+ classes"):
        finished.student(["wolf", "yurt"])


def test_the_clip_of_a_test_is_identified_by_its_weights(run, base, tmp_path, student_file):
    """Other weights of the same architecture are refused; a copy of the weights under another name is the same CLIP."""
    other = {"MODEL.BACKBONE.NAME": tiny_clip_file(tmp_path / "other.safetensors", 7, 32, 2)}
    flags = ("--eval-only", "--model-dir", base)
    assert "MODEL.BACKBONE.NAME" in run.refused("CoOp", "a", *flags, **NEW, **other)
    copy = shutil.copy(student_file, tmp_path / "copy.safetensors")
    run("CoOp", "b", *flags, **NEW, **{"MODEL.BACKBONE.NAME": copy})
    as_older_version(base)  # its record has only the name
    assert "MODEL.BACKBONE.NAME" in run.refused("CoOp", "c", *flags, **NEW, **other)
    run("CoOp", "d", *flags, **NEW)
    assert "does not record the weights of its CLIP" in (run.folder / "d/log.txt").read_text()


def test_official_weights_without_a_record_are_tested(run, base):
    (base / "run.json").unlink()
    test = run("CoOp", "test", "--eval-only", "--model-dir", base, **NEW)
    assert "holds no record of a run" in (test / "log.txt").read_text()


def test_the_last_epoch_of_an_unfinished_training_is_not_tested(run, base):
    """After more epochs, the same folder would hold another test."""
    (base / "done.json").unlink()
    words = ("CoOp", "test", "--eval-only", "--model-dir", base)
    assert f"The training in {base} is not finished" in run.refused(*words, **NEW)
    run(*words, "--load-epoch", 1, **NEW)


def test_a_test_may_differ_in_precision_and_training_settings(run, trained):
    test = run("CoOp", "test", "--eval-only", "--model-dir", trained, **NEW, **{
        "TRAINER.COOP.PREC": "bf16", "OPTIM.LR": 1.0, "INPUT.TRANSFORMS": ("normalize",), "TEACHER.NAME": "unused",
        "TEST.SPLIT": "val",
    })  # fmt: skip
    tested = run.metrics(test)["tested"]
    assert (tested["split"], tested["images"], tested["classes"]) == ("val", 10, "new")
    assert ", 10 validation images" in (test / "log.txt").read_text()
    assert run.metrics(trained)["tested"]["split"] == "test"
    assert ", 10 test images" in (trained / "log.txt").read_text()


def test_promptkd_is_tested_with_its_teacher(run, teacher_file, tmp_path):
    kd = run("PromptKD", "kd", **{"OPTIM.MAX_EPOCH": 1})
    copy = {"TEACHER.NAME": shutil.copy(teacher_file, tmp_path / "teacher2.safetensors")}
    assert "TEACHER.NAME" in run.refused("PromptKD", "test", "--eval-only", "--model-dir", kd, **NEW, **copy)


def test_replaced_weights_of_the_clip_are_detected(run, student_file, tmp_path, data_root):
    used = {"MODEL.BACKBONE.NAME": shutil.copy(student_file, tmp_path / "clip.safetensors")}
    own = run("CoOp", "own", **used)
    tiny_clip_file(tmp_path / "clip.safetensors", 7, 32, 2)
    for main, words in ((predict.main, [own, data_root / "tiny/images/0_0.jpg"]), (export.main, [own])):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        assert ended.value.code == 2
    with pytest.raises(UserError, match="have changed since the run"):
        TrainedRun(own).student()
    assert "MODEL.BACKBONE" in run.refused("CoOp", "test", "--eval-only", "--model-dir", own, **NEW, **used)
    assert "other weights in MODEL.BACKBONE" in run.refused("CoOp", "own", **used)


# Resuming -------------------------------------------------------------------------------------------------------------

RESUMED = {
    "other classes": ("CoOp", {"DATASET.SUBSAMPLE_CLASSES": "all"}, "SUBSAMPLE_CLASSES 'base' (here 'all')"),
    "another seed": ("CoOp", {"SEED": 2}, "SEED 1 (here 2)"),
    "other shots": ("CoOp", {"DATASET.NUM_SHOTS": 1}, "DATASET.NUM_SHOTS 2 (here 1)"),
    "other settings": ("CoOp", {"TRAINER.COOP.CTX_INIT": "one image of a"}, "TRAINER.COOP.CTX_INIT"),
    "another method": ("CoOp_KDPL", {}, "TRAINER.NAME"),
    "nothing left": ("CoOp", {"OPTIM.MAX_EPOCH": 2}, "nothing is left to train"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_only_the_same_training_is_resumed(run, trained, case):
    trainer, overrides, message = RESUMED[case]
    assert message in run.refused(trainer, "more", "--resume", trained, **{"OPTIM.MAX_EPOCH": 4, **overrides})
    assert not (run.folder / "more/done.json").exists() and not (run.folder / "more/prompt_learner").exists()


def test_a_training_with_another_clip_is_not_resumed(run, trained, tmp_path):
    other = {"MODEL.BACKBONE.NAME": tiny_clip_file(tmp_path / "other.safetensors", 7, 32, 2), "OPTIM.MAX_EPOCH": 4}
    assert "MODEL.BACKBONE.NAME" in run.refused("CoOp", "clip", "--resume", trained, **other)


def test_a_longer_training_resumes_and_records_its_origin(run, trained):
    longer = {"OPTIM.MAX_EPOCH": 4, "OPTIM.LR": 0.01}
    more = run("CoOp", "more", "--resume", trained, **longer)
    assert record_of(more)["inputs"]["resumed_from"] == record_of(trained)["fingerprint"]
    assert "Resuming from epoch 2" in (more / "log.txt").read_text()
    assert (more / "prompt_learner/model.pth.tar-4").is_file()
    before, after = run.metrics(trained), run.metrics(more)  # which counts the origin as well
    assert after["steps"] == 2 * before["steps"] and after["seconds"]["train"] > before["seconds"]["train"]
    assert "continued from another run" in run.refused("CoOp", "more", **longer)  # another run without --resume
    run("CoOp", "more", "--resume", trained, **longer)  # finished


def test_an_interrupted_resumed_run_continues_from_its_own_checkpoints(build):
    settings = EACH_EPOCH | {"OPTIM.MAX_EPOCH": 4}
    first = build("CoOp", "first", **{**settings, "OPTIM.MAX_EPOCH": 1})
    first.train()
    stopped_in_epoch(build("CoOp", "second", **settings, RESUME=first.output_dir), 3)
    again = build("CoOp", "second", **settings, RESUME=first.output_dir)
    again.train()
    assert again.start_epoch == 3 and again.steps >= 4 * len(again.train_loader_x)


# Data -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(data_root, tmp_path) -> Path:
    return Path(shutil.copytree(data_root, tmp_path / "data"))


def drop_test_image(root: Path) -> None:
    file = root / "tiny/split.json"
    split = json.loads(file.read_text())
    split["test"] = split["test"][1:]
    file.write_text(json.dumps(split))


def test_other_rows_under_the_same_name_are_another_run(run, copied):
    here = {"DATASET.ROOT": str(copied)}
    zero = run("ZeroshotCLIP", "zero")
    run("ZeroshotCLIP", "zero", **here)  # the same rows in another folder are the same data
    drop_test_image(copied)
    assert "other test images" in run.refused("ZeroshotCLIP", "zero", **here)
    (zero / "done.json").unlink()
    for _ in range(2):  # an interrupted run keeps the record of its first attempt
        assert "other test images" in run.refused("ZeroshotCLIP", "zero", **here)
    other = run("ZeroshotCLIP", "other", **here)
    assert record_of(other)["fingerprint"] != record_of(zero)["fingerprint"]
    assert run.metrics(other)["tested"]["sha256"] != run.metrics(zero)["tested"]["sha256"]


def test_a_finished_run_stays_finished_without_its_data(run, copied, capsys):
    here = {"DATASET.ROOT": str(copied)}
    zero = run("ZeroshotCLIP", "zero", **here)
    shutil.rmtree(copied)
    run("ZeroshotCLIP", "zero", **here)
    out = capsys.readouterr().out
    assert f"{zero} is finished" in out and "not compared" in out


def test_runs_of_older_versions_are_finished(run, base, capsys):
    as_older_version(base)
    run("CoOp", "base", **EACH_EPOCH)
    out = capsys.readouterr().out
    assert "is finished" in out and "does not record the data and the weights" in out
    remove(base, "done.json", "prompt_learner/model.pth.tar-2")
    run("CoOp", "base", **EACH_EPOCH)  # an interrupted one resumes
    assert "does not record the data and the weights" in (base / "log.txt").read_text()
    assert record_of(base)["inputs"]["data"]["train"]


# Times, seeds and flags -----------------------------------------------------------------------------------------------


def test_times_include_all_attempts(run, base):
    """Covers a kill during the test and a kill during the last epoch."""
    before = run.metrics(base)
    remove(base, "done.json", "metrics.json")
    after = run.metrics(run("CoOp", "base", **EACH_EPOCH))
    assert after["steps"] == before["steps"]
    for stage in ("train", "step"):
        assert after["seconds"][stage] == pytest.approx(before["seconds"][stage], rel=0.3)
    assert after["seconds"]["total"] > before["seconds"]["train"] and after["seconds"]["build"] > 0
    remove(base, "done.json", "metrics.json", "prompt_learner/model.pth.tar-2")
    again = run.metrics(run("CoOp", "base", **EACH_EPOCH))
    assert again["steps"] > before["steps"] and again["seconds"]["train"] > after["seconds"]["train"]


def test_runs_without_a_seed_differ_and_resume_with_their_own(run):
    words = EACH_EPOCH | {"SEED": -1}
    first, second = run("CoOp", "a", **words), run("CoOp", "b", **words)
    assert record_of(first)["fingerprint"] != record_of(second)["fingerprint"]
    assert run.metrics(first)["seed"] != run.metrics(second)["seed"] >= 0
    log = (first / "log.txt").stat().st_mtime_ns
    run("CoOp", "a", **words)  # the finished run of this folder
    assert (first / "log.txt").stat().st_mtime_ns == log
    test = run("CoOp", "test", "--eval-only", "--model-dir", first, **words, **NEW)
    assert record_of(test)["config"]["SEED"] == record_of(first)["config"]["SEED"]
    last = "prompt_learner/model.pth.tar-2"
    weights = checkpoint.read(first / last)["state_dict"]
    remove(first, "done.json", last)
    run("CoOp", "a", **words)
    assert same(checkpoint.read(first / last)["state_dict"], weights)


A_RUN = {"MODEL.BACKBONE.NAME": "run:some/run"}
REFUSED = {
    "an epoch without a test": (("--load-epoch", "1"), {}, "--eval-only"),
    "no test": ((), {"TEST.NO_TEST": True}, "TEST.NO_TEST"),
    "regions without a seed": (("--generate-regions",), {"SEED": -1}, "--seed"),
    "a run as the student": ((), A_RUN, "MODEL.BACKBONE.NAME is 'run:some/run', but it must be a CLIP"),
    "regions for a run as the student": (("--generate-regions",), A_RUN, "MODEL.BACKBONE.NAME is 'run:some/run'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_flags_and_settings(run, case):
    flags, overrides, message = REFUSED[case]
    assert message in run.refused("FDBPL", "new", *flags, **overrides)
    assert not (run.folder / "new/done.json").exists()


def test_each_run_of_a_process_has_its_own_log(run):
    before = sys.stdout
    first = run("CoOp", "first", "--no-train")
    log = (first / "log.txt").read_text()
    second = run("CoOp", "second", "--no-train")
    assert sys.stdout is before
    assert (first / "log.txt").read_text() == log and "Config" in (second / "log.txt").read_text()
