"""Loading of finished runs; tests/bad_input/files/test_run_folders.py has broken run folders."""

import json
import shutil

import pytest
import torch

from fdbpl.engine.trained_run import TrainedRun
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json, write_json

from .methods import finish_run_folder, logits

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def finished(build_shared, name: str, output: str, **settings):
    """A trained trainer and its run folder."""
    trainer = build_shared(name, output, **{"OPTIM.MAX_EPOCH": 1, **settings})
    trainer.train()
    return trainer, finish_run_folder(trainer)


@pytest.fixture(scope="module")
def folder(build_shared):
    return finished(build_shared, "CoOp", "finished")[1]


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "a run")


def replace(file, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_runs_of_older_versions_have_the_template_of_their_data_set(copy):
    assert TrainedRun(copy).template == "a drawing of a {}."
    metrics = read_json(copy / "metrics.json", "metrics")
    del metrics["protocol"]["template"]
    write_json(copy / "metrics.json", metrics)
    assert TrainedRun(copy).template == "a photo of a {}."
    replace(copy / "config.yaml", "NAME: TinyDataset", "NAME: EuroSAT")
    assert TrainedRun(copy).template == "a centered satellite photo of {}."


@pytest.mark.parametrize("precision", ["fp16", "amp", "bf16"])
def test_half_precision_runs_are_loaded_in_float32_on_a_cpu_without_it(copy, folder, precision, cpu_with):
    cpu_with("")
    replace(copy / "config.yaml", "PREC: fp32", f"PREC: {precision}")
    assert torch.equal(TrainedRun(copy).predictor()(IMAGES), TrainedRun(folder).predictor()(IMAGES))


def test_unknown_keys_of_data_sets_are_kept_and_those_of_trainers_refused(copy):
    replace(copy / "config.yaml", "DATASET:\n", "DATASET:\n  ELSEWHERE:\n    DRAW: test\n")
    assert TrainedRun(copy).cfg.DATASET.ELSEWHERE.DRAW == "test"
    replace(copy / "config.yaml", "TRAINER:\n", "TRAINER:\n  ELSEWHERE: 1\n")
    with pytest.raises(UserError, match="'TRAINER.ELSEWHERE'"):
        TrainedRun(copy)


def test_the_template_of_zero_shot_clip_is_loaded(build_shared):
    settings = {"TRAINER.ZEROSHOTCLIP.TEMPLATE": "no more than a {}"}
    trainer, folder = finished(build_shared, "ZeroshotCLIP", "zero", **settings)
    run = TrainedRun(folder)
    assert run.template == "no more than a {}"
    torch.testing.assert_close(run.predictor()(IMAGES), logits(trainer, IMAGES), atol=1e-5, rtol=1e-5)


def test_the_difference_of_both_prompt_spaces_is_loaded(build_shared):
    trainer, folder = finished(build_shared, "FDBPL", "difference", **{"TRAINER.FDBPL.TEST_LOGITS": "difference"})
    run = TrainedRun(folder)
    found = run.predictor()(IMAGES)
    torch.testing.assert_close(found, logits(trainer, IMAGES), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, run.student()(IMAGES))


def test_promptkd_loads_its_teacher_if_no_bank_holds_the_class_names(build_shared, tmp_path):
    trainer, folder = finished(build_shared, "FDBPL_PromptKD", "kd")
    expected = logits(trainer, IMAGES)
    shutil.move(trainer.cfg.REGIONS.ROOT, tmp_path / "away")
    try:
        found = TrainedRun(folder).predictor()(IMAGES)
    finally:
        shutil.move(tmp_path / "away", trainer.cfg.REGIONS.ROOT)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_test_run_is_refused_with_the_name_of_its_training(copy):
    record = json.loads((copy / "run.json").read_text())
    for flag in (["--model-dir", "output/the run, LR=3"], ["--model-dir=output/the run, LR=3"]):
        write_json(copy / "run.json", {**record, "task": "test 0123 epoch None", "command": ["python", *flag]})
        with pytest.raises(UserError, match="a test of the run in output/the run, LR=3. Give"):
            TrainedRun(copy)
