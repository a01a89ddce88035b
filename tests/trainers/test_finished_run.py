"""A finished run taken up from its folder; what is none is refused with a sentence."""

import json
import shutil

import pytest
import torch

from fdbpl.engine.trained_run import TrainedRun
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json, write_json

from .methods import as_train_py_leaves_it, logits


@pytest.fixture(scope="module")
def folder(build_shared):
    trainer = build_shared("CoOp", "finished", **{"OPTIM.MAX_EPOCH": 1})
    trainer.train()
    return as_train_py_leaves_it(trainer)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "a run")


def test_an_older_run_s_template_is_that_of_its_data_set(copy):
    assert TrainedRun(copy).template == "a drawing of a {}."
    metrics = read_json(copy / "metrics.json", "metrics")
    del metrics["protocol"]["template"]
    write_json(copy / "metrics.json", metrics)
    assert TrainedRun(copy).template == "a photo of a {}."
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("NAME: TinyWorld", "NAME: EuroSAT"))
    assert TrainedRun(copy).template == "a centered satellite photo of {}."


@pytest.mark.parametrize("precision", ["fp16", "amp"])
def test_float16_is_read_in_float32_on_a_cpu(copy, folder, precision):
    config = copy / "config.yaml"
    text = config.read_text()
    assert text.count("PREC: fp32") > 3
    config.write_text(text.replace("PREC: fp32", f"PREC: {precision}"))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TrainedRun(copy).predictor()(images), TrainedRun(folder).predictor()(images))


def test_keys_of_data_sets_that_are_not_at_hand_are_kept(copy):
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("DATASET:\n", "DATASET:\n  ELSEWHERE:\n    DRAW: test\n", 1))
    assert TrainedRun(copy).cfg.DATASET.ELSEWHERE.DRAW == "test"
    config.write_text(config.read_text().replace("TRAINER:\n", "TRAINER:\n  ELSEWHERE: 1\n", 1))
    with pytest.raises(UserError, match="'TRAINER.ELSEWHERE'"):
        TrainedRun(copy)


def test_a_frozen_sentence_of_the_run_s_own(build_shared):
    trainer = build_shared("ZeroshotCLIP", "zero", **{"TRAINER.ZEROSHOTCLIP.TEMPLATE": "no more than a {}"})
    trainer.train()
    run = TrainedRun(as_train_py_leaves_it(trainer))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert run.template == "no more than a {}"
    torch.testing.assert_close(run.predictor()(images), logits(trainer, images), atol=1e-5, rtol=1e-5)


def test_s_plus_minus_s_minus(build_shared):
    trainer = build_shared("FDBPL", "difference", **{"OPTIM.MAX_EPOCH": 1, "TRAINER.FDBPL.TEST_LOGITS": "difference"})
    trainer.train()
    run = TrainedRun(as_train_py_leaves_it(trainer))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = run.predictor()(images)
    torch.testing.assert_close(found, logits(trainer, images), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found, run.student()(images))


def test_promptkd_asks_its_teacher_where_no_bank_knows_the_names(build_shared, tmp_path):
    trainer = build_shared("FDBPL_PromptKD", "kd", **{"OPTIM.MAX_EPOCH": 1})
    trainer.train()
    folder = as_train_py_leaves_it(trainer)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = logits(trainer, images)
    shutil.move(trainer.cfg.REGIONS.ROOT, tmp_path / "away")
    try:
        found = TrainedRun(folder).predictor()(images)
    finally:
        shutil.move(tmp_path / "away", trainer.cfg.REGIONS.ROOT)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_mere_test_names_its_training_run(copy):
    record = json.loads((copy / "run.json").read_text())
    for flag in (["--model-dir", "output/the run, LR=3"], ["--model-dir=output/the run, LR=3"]):
        write_json(copy / "run.json", {**record, "task": "test 0123 epoch None", "command": ["python", *flag]})
        with pytest.raises(UserError, match="a test of the run in output/the run, LR=3. Give"):
            TrainedRun(copy)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda run: shutil.rmtree(run), "the folder does not exist"),
        (lambda run: (run / "done.json").unlink(), "unfinished"),
        (lambda run: (run / "config.yaml").unlink(), "it has no config.yaml"),
        (lambda run: shutil.rmtree(run / "prompt_learner"), "no checkpoint in .*prompt_learner"),
        (lambda run: (run / "config.yaml").write_text("TRAINER: {NAME: Nothing}"), "trainer 'Nothing'"),
        (lambda run: (run / "metrics.json").write_text("{"), "metrics.json"),
    ],
)
def test_what_cannot_be_taken_up(copy, damage, found):
    damage(copy)
    with pytest.raises(UserError, match=found):
        TrainedRun(copy).predictor()
