"""What a run is: its configuration, data, weights, seed and origin; weights of other runs are not taken for its own."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from fdbpl import export, predict
from fdbpl.engine.trained_run import TrainedRun
from fdbpl.errors import UserError
from fdbpl.runs.folder import fingerprint

from .conftest import TrainPy, tiny_clip_file
from .methods import Stop, stop_in_epoch


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def edit_record(folder: Path, change) -> None:
    """Change run.json, and keep it consistent with itself."""
    record = record_of(folder)
    change(record)
    record["fingerprint"] = fingerprint(record["config"], record["task"], record.get("inputs"))
    (folder / "run.json").write_text(json.dumps(record))
    done = json.loads((folder / "done.json").read_text())
    (folder / "done.json").write_text(json.dumps({**done, "fingerprint": record["fingerprint"]}))


def as_older_version(folder: Path) -> None:
    edit_record(folder, lambda record: record.pop("inputs"))
    (folder / "attempts.json").unlink()


@pytest.fixture(scope="module")
def trained(cfg_in, tmp_path_factory) -> Path:
    """A CoOp run on the base classes: two epochs, a checkpoint of each."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        return TrainPy(cfg_in, folder, patch)("CoOp", "base", **{"TRAIN.CHECKPOINT_FREQ": 1})


@pytest.fixture
def base(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "base"))


@pytest.fixture
def run(train_py, monkeypatch, capsys):
    """run(...) -> the run folder; run.refused(...) -> what a refused run says."""

    def refused(*words, **overrides) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            train_py(*words, **overrides)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and "Traceback" not in said
        return said

    train_py.refused = refused
    return train_py


NEW = {"DATASET.SUBSAMPLE_CLASSES": "new"}
TESTS = {
    "another method": ("KgCoOp", {}, "TRAINER.NAME 'CoOp' (here 'KgCoOp')"),
    "another method that has the same prompts": ("CoOp_KDPL", {}, "TRAINER.NAME 'CoOp' (here 'CoOp_KDPL')"),
    "no method": ("ZeroshotCLIP", {}, "TRAINER.NAME 'CoOp' (here 'ZeroshotCLIP')"),
    "another place of the class": (
        "CoOp", {"TRAINER.COOP.CLASS_TOKEN_POSITION": "front"}, "CLASS_TOKEN_POSITION 'end' (here 'front')"),
    "other pixels": ("CoOp", {"INPUT.INTERPOLATION": "bilinear"}, "INPUT.INTERPOLATION 'bicubic' (here 'bilinear')"),
    "pixels that are not normalised": ("CoOp", {"INPUT.TRANSFORMS": ("random_flip",)}, "INPUT.TRANSFORMS"),
}  # fmt: skip


@pytest.mark.parametrize("case", TESTS)
def test_weights_of_another_kind_are_not_tested(run, base, case):
    trainer, overrides, said = TESTS[case]
    assert said in run.refused(trainer, "test", "--eval-only", "--model-dir", base, **NEW, **overrides)
    assert not (run.folder / "test/metrics.json").exists()


def test_weights_are_not_tested_around_another_clip(run, base, tmp_path, student_file, capsys):
    """The same architecture with other weights; a copy of the same weights under another name is the same CLIP."""
    other = tiny_clip_file(tmp_path / "other.safetensors", 7, 32, 2)
    words = ("CoOp", "test", "--eval-only", "--model-dir", base)
    assert "MODEL.BACKBONE.NAME" in run.refused(*words, **NEW, **{"MODEL.BACKBONE.NAME": other})
    shutil.rmtree(run.folder / "test", ignore_errors=True)
    copy = shutil.copy(student_file, tmp_path / "copy.safetensors")
    run(*words, **NEW, **{"MODEL.BACKBONE.NAME": copy})
    as_older_version(base)
    assert "MODEL.BACKBONE.NAME" in run.refused("CoOp", "b", *words[2:], **NEW, **{"MODEL.BACKBONE.NAME": other})
    run("CoOp", "c", *words[2:], **NEW)  # the records of older versions hold the name alone
    assert "does not record the weights of its CLIP" in (run.folder / "c/log.txt").read_text()


def test_weights_without_a_record_are_tested(run, base):
    """Official checkpoints have no record of their run."""
    (base / "run.json").unlink()
    test = run("CoOp", "test", "--eval-only", "--model-dir", base, **NEW)
    assert "holds no record of a run" in (test / "log.txt").read_text()


def test_other_precision_and_training_settings_do_not_matter_in_a_test(run, base):
    run("CoOp", "test", "--eval-only", "--model-dir", base, **NEW, **{
        "TRAINER.COOP.PREC": "bf16", "OPTIM.LR": 1.0, "INPUT.TRANSFORMS": ("normalize",), "TEACHER.NAME": "unused",
    })  # fmt: skip


def test_promptkd_is_tested_with_its_teacher(run, teacher_file, tmp_path):
    kd = run("PromptKD", "kd", **{"OPTIM.MAX_EPOCH": 1})
    copy = shutil.copy(teacher_file, tmp_path / "teacher2.safetensors")
    said = run.refused("PromptKD", "test", "--eval-only", "--model-dir", kd, **NEW, **{"TEACHER.NAME": copy})
    assert "TEACHER.NAME" in said


def test_a_replaced_clip_is_noticed_by_all_who_load_the_run(run, base, tmp_path, data_root):
    file = shutil.copy(record_of(base)["config"]["MODEL"]["BACKBONE"]["NAME"], tmp_path / "clip.safetensors")
    used = {"MODEL.BACKBONE.NAME": file}
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


# resuming -----------------------------------------------------------------------------------------------------------

RESUMED = {
    "other classes": ({"DATASET.SUBSAMPLE_CLASSES": "all"}, "DATASET.SUBSAMPLE_CLASSES 'base' (here 'all')"),
    "another seed": ({"SEED": 2}, "SEED 1 (here 2)"),
    "other shots": ({"DATASET.NUM_SHOTS": 1}, "DATASET.NUM_SHOTS 2 (here 1)"),
    "other settings of the method": ({"TRAINER.COOP.CTX_INIT": "one image of a"}, "TRAINER.COOP.CTX_INIT"),
    "nothing left": ({"OPTIM.MAX_EPOCH": 2}, "nothing is left to train"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_only_the_same_training_is_resumed(run, base, case):
    overrides, said = RESUMED[case]
    words = {"OPTIM.MAX_EPOCH": 4, **overrides}
    assert said in run.refused("CoOp", "more", "--resume", base, **words)
    assert not (run.folder / "more/done.json").exists() and not (run.folder / "more/prompt_learner").exists()


def test_another_method_or_clip_is_not_resumed(run, base, tmp_path):
    assert "TRAINER.NAME" in run.refused("CoOp_KDPL", "kd", "--resume", base, **{"OPTIM.MAX_EPOCH": 4})
    other = tiny_clip_file(tmp_path / "other.safetensors", 7, 32, 2)
    words = {"OPTIM.MAX_EPOCH": 4, "MODEL.BACKBONE.NAME": other}
    assert "MODEL.BACKBONE.NAME" in run.refused("CoOp", "clip", "--resume", base, **words)


def test_a_longer_training_resumes_and_records_its_origin(run, base):
    longer = {"OPTIM.MAX_EPOCH": 4, "OPTIM.LR": 0.01}
    more = run("CoOp", "more", "--resume", base, **longer)
    assert record_of(more)["inputs"]["resumed_from"] == record_of(base)["fingerprint"]
    assert "Resuming from epoch 2" in (more / "log.txt").read_text()
    assert (more / "prompt_learner/model.pth.tar-4").is_file()
    assert run.metrics(more)["steps"] == 2 * run.metrics(base)["steps"]  # those of the run that it goes on from as well
    assert run.metrics(more)["seconds"]["train"] > run.metrics(base)["seconds"]["train"]
    said = run.refused("CoOp", "more", **longer)  # without --resume it would be another run
    assert "continued from another run" in said
    run("CoOp", "more", "--resume", base, **longer)  # finished


def test_a_resumed_run_that_was_interrupted_goes_on_from_its_own_checkpoints(build):
    settings = {"TRAIN.CHECKPOINT_FREQ": 1, "OPTIM.MAX_EPOCH": 4}
    first = build("CoOp", "first", **{**settings, "OPTIM.MAX_EPOCH": 1})
    first.train()
    second = build("CoOp", "second", **settings, RESUME=first.output_dir)
    stop_in_epoch(second, 3)
    with pytest.raises(Stop):
        second.train()
    again = build("CoOp", "second", **settings, RESUME=first.output_dir)
    again.train()
    assert again.start_epoch == 3 and again.steps >= 4 * len(again.train_loader_x)


# the data -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied_data(data_root, tmp_path) -> Path:
    return Path(shutil.copytree(data_root, tmp_path / "data"))


def drop_test_image(root: Path) -> None:
    file = root / "tiny/split.json"
    split = json.loads(file.read_text())
    split["test"] = split["test"][1:]
    file.write_text(json.dumps(split))


def test_the_same_name_with_other_rows_is_another_run(run, copied_data, data_root):
    zero = run("ZeroshotCLIP", "zero")
    run("ZeroshotCLIP", "zero", **{"DATASET.ROOT": str(copied_data)})  # the same rows elsewhere are the same data
    drop_test_image(copied_data)
    said = run.refused("ZeroshotCLIP", "zero", **{"DATASET.ROOT": str(copied_data)})
    assert "other test images" in said
    other = run("ZeroshotCLIP", "other", **{"DATASET.ROOT": str(copied_data)})
    assert record_of(other)["fingerprint"] != record_of(zero)["fingerprint"]
    assert run.metrics(other)["tested"]["sha256"] != run.metrics(zero)["tested"]["sha256"]


def test_an_interrupted_run_does_not_go_on_with_other_data(run, copied_data):
    zero = run("ZeroshotCLIP", "zero", **{"DATASET.ROOT": str(copied_data)})
    (zero / "done.json").unlink()
    drop_test_image(copied_data)
    for _ in range(2):  # the record stays that of the first attempt
        assert "other test images" in run.refused("ZeroshotCLIP", "zero", **{"DATASET.ROOT": str(copied_data)})


def test_a_finished_run_whose_data_are_gone_is_finished(run, copied_data, capsys):
    zero = run("ZeroshotCLIP", "zero", **{"DATASET.ROOT": str(copied_data)})
    shutil.rmtree(copied_data)
    run("ZeroshotCLIP", "zero", **{"DATASET.ROOT": str(copied_data)})
    said = capsys.readouterr().out
    assert f"{zero} is finished" in said and "not compared" in said


def test_runs_of_older_versions_are_finished(run, base, capsys):
    as_older_version(base)
    run("CoOp", "base", **{"TRAIN.CHECKPOINT_FREQ": 1})
    said = capsys.readouterr().out
    assert "is finished" in said and "does not record the data and the weights" in said
    for name in ("done.json", "prompt_learner/model.pth.tar-2"):
        (base / name).unlink()
    run("CoOp", "base", **{"TRAIN.CHECKPOINT_FREQ": 1})  # an interrupted one goes on
    assert "does not record the data and the weights" in (base / "log.txt").read_text()
    assert record_of(base)["inputs"]["data"]["train"]


def test_a_test_says_on_what_it_was_made(run, base):
    val = run("CoOp", "val", "--eval-only", "--model-dir", base, **NEW, **{"TEST.SPLIT": "val"})
    tested = run.metrics(val)["tested"]
    assert (tested["split"], tested["images"], tested["classes"]) == ("val", 10, "new")
    assert ", 10 validation images" in (val / "log.txt").read_text()
    assert run.metrics(base)["tested"]["split"] == "test"
    assert ", 10 test images" in (base / "log.txt").read_text()


# times, seeds and flags ---------------------------------------------------------------------------------------------


def test_times_are_those_of_all_attempts(run, base):
    """As if the run had been killed while it was tested, and before its last epoch."""
    before = run.metrics(base)
    for name in ("done.json", "metrics.json"):
        (base / name).unlink()
    after = run.metrics(run("CoOp", "base", **{"TRAIN.CHECKPOINT_FREQ": 1}))
    assert after["steps"] == before["steps"]
    for stage in ("train", "step"):
        assert after["seconds"][stage] == pytest.approx(before["seconds"][stage], rel=0.3)
    assert after["seconds"]["total"] > before["seconds"]["train"] and after["seconds"]["build"] > 0
    for name in ("done.json", "metrics.json", "prompt_learner/model.pth.tar-2"):
        (base / name).unlink()
    again = run.metrics(run("CoOp", "base", **{"TRAIN.CHECKPOINT_FREQ": 1}))
    assert again["steps"] > before["steps"] and again["seconds"]["train"] > after["seconds"]["train"]


def test_runs_without_a_seed_are_different_runs(run):
    words = {"OPTIM.MAX_EPOCH": 1, "SEED": -1}
    first, second = run("CoOp", "a", **words), run("CoOp", "b", **words)
    assert record_of(first)["fingerprint"] != record_of(second)["fingerprint"]
    assert run.metrics(first)["seed"] != run.metrics(second)["seed"] >= 0
    log = (first / "log.txt").stat().st_mtime_ns
    run("CoOp", "a", **words)  # the run of this folder
    assert (first / "log.txt").stat().st_mtime_ns == log
    test = run("CoOp", "test", "--eval-only", "--model-dir", first, **words, **NEW)
    assert record_of(test)["config"]["SEED"] == record_of(first)["config"]["SEED"]


def test_a_run_without_a_seed_resumes_as_the_same_run(run):
    words = {"TRAIN.CHECKPOINT_FREQ": 1, "SEED": -1}
    first = run("CoOp", "a", **words)
    weights = torch.load(first / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]["ctx"]
    for name in ("done.json", "prompt_learner/model.pth.tar-2"):
        (first / name).unlink()
    run("CoOp", "a", **words)
    again = torch.load(first / "prompt_learner/model.pth.tar-2", weights_only=True)["state_dict"]["ctx"]
    assert torch.equal(weights, again)


REFUSED = {
    "an epoch without a test": (("--load-epoch", "1"), {}, "--eval-only"),
    "a run without a result": ((), {"TEST.NO_TEST": True}, "TEST.NO_TEST"),
    "regions of no seed": (("--generate-regions",), {"SEED": -1}, "--seed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_ignored_is_refused(run, base, case):
    flags, overrides, said = REFUSED[case]
    assert said in run.refused("FDBPL", "new", *flags, **overrides)
    assert not (run.folder / "new/done.json").exists()
