"""The life cycle of every registered trainer: training, stopping and resuming, loading, prediction."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fdbpl import scores
from fdbpl.engine import checkpoint
from fdbpl.engine.trained_run import TrainedRun

from .methods import (
    NO_GRADIENT,
    finish_run_folder,
    learned,
    logits,
    recorded_steps,
    same,
    stopped_in_epoch,
    student_of,
    trained,
)  # fmt: skip

FOLDERS = {"MaPLe": "MultiModalPromptLearner"} | dict.fromkeys(("IVLP", "PromptSRC", "PromptKD"), "VLPromptLearner")
# without weight decay only gradients change parameters
SETTINGS = {"OPTIM.MAX_EPOCH": 3, "TRAIN.CHECKPOINT_FREQ": 1, "OPTIM.WEIGHT_DECAY": 0.0}
IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def settings_of(name: str) -> dict:
    """Adam for TCP, as in its official code; SGD for the others."""
    return SETTINGS | ({"OPTIM.NAME": "adam", "OPTIM.LR": 0.002} if student_of(name) == "TCP" else {})


def frozen(trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trainer.student.backbone.model.state_dict().items()}


@pytest.fixture(scope="module", params=trained())
def run(request, build_shared) -> SimpleNamespace:
    """A complete run of a trainer, with its state before."""
    name = request.param
    trainer = build_shared(name, f"uninterrupted/{name}", **settings_of(name))
    start, clip, steps = learned(trainer), frozen(trainer), recorded_steps(trainer)
    trainer.train()
    return SimpleNamespace(name=name, trainer=trainer, start=start, clip=clip, steps=steps)


def contents(trainer, epoch: int) -> dict:
    """Return the contents of the checkpoints of an epoch by module."""
    return {name: checkpoint.read(Path(trainer.output_dir, name, f"model.pth.tar-{epoch}")) for name in trainer._models}


def test_all_trained_parameters_change_and_nothing_else(run):
    assert run.start, "nothing is trained"
    for name, value in learned(run.trainer).items():
        if not name.endswith(NO_GRADIENT):
            assert (value - run.start[name]).abs().max() > 1e-6 * run.start[name].abs().max(), name
    assert same(frozen(run.trainer), run.clip)
    assert all(value.grad is None for value in run.trainer.student.backbone.model.parameters())
    assert 0 <= run.trainer.results["accuracy"] <= 100


def test_scores_are_those_of_the_logits_of_the_test_images(run):
    batches = list(run.trainer.test_loader)
    images, labels = (torch.cat([batch[key] for batch in batches]) for key in ("img", "label"))
    found = scores.outcomes(logits(run.trainer, images).numpy(), labels.numpy())
    summary = scores.summarize(found, len(run.trainer.dm.dataset.classnames))
    for key, value in summary.items():
        assert run.trainer.results[key] == pytest.approx(value, abs=1e-4), key
    with np.load(Path(run.trainer.output_dir, "confusion.npz"), allow_pickle=False) as content:
        assert content["classnames"].tolist() == run.trainer.dm.dataset.classnames
        assert content["predictions"].tolist() == found.predictions.tolist()
        assert content["labels"].tolist() == labels.tolist()
        assert content["confidences"] == pytest.approx(found.confidences, abs=1e-5)
        assert content["confusion"].sum() == len(labels)


def test_checkpoints_have_their_official_folders(run):
    folders = {FOLDERS.get(student_of(run.name), "prompt_learner")}
    if run.name.startswith("FDBPL") and run.trainer.student.learns_text:
        folders.add("negative_prompt_learner")
    assert {path.parent.name for path in Path(run.trainer.output_dir).glob("*/checkpoint")} == folders
    for folder in folders:
        assert checkpoint.epochs(Path(run.trainer.output_dir, folder)) == [1, 2, 3]
        state = contents(run.trainer, 3)[folder]["state_dict"]
        assert not [key for key in state if key.endswith("attn.in_proj_weight")]  # nothing of the frozen CLIP


def test_a_run_that_is_stopped_and_resumed_twice_equals_an_uninterrupted_run(run, build_shared, capsys):
    settings, steps = settings_of(run.name), {}
    for epoch in (1, 2):  # in the middle of the second and of the third
        broken = build_shared(run.name, f"broken/{run.name}", **settings)
        made = recorded_steps(broken)
        stopped_in_epoch(broken, epoch)
        assert set(made) == {(epoch - 1, 0), (epoch - 1, 1), (epoch, 0)}  # no finished epoch is repeated
        steps.update(made)
    resumed = build_shared(run.name, f"broken/{run.name}", **settings)
    made = recorded_steps(resumed)
    capsys.readouterr()
    resumed.train()
    assert "Resuming from epoch 2" in capsys.readouterr().out
    assert len(run.steps) == 6 and {**steps, **made} == run.steps  # learning rates and losses, bit for bit
    for epoch in (1, 2, 3):
        assert same(contents(resumed, epoch), contents(run.trainer, epoch)), epoch
    assert same(learned(resumed), learned(run.trainer)) and resumed.results == run.trainer.results
    tested = build_shared(run.name, f"broken/{run.name}", **settings)  # after a kill during its last test
    made = recorded_steps(tested)
    tested.train()
    assert not made and same(learned(tested), learned(run.trainer)) and tested.results == run.trainer.results


def test_the_finished_run_predicts_the_same_without_its_data_set(run):
    """For its classes, in another order, and for other classes."""
    finished = TrainedRun(finish_run_folder(run.trainer))
    batch = next(iter(run.trainer.test_loader))
    expected = logits(run.trainer, batch["img"])
    assert finished.classnames == run.trainer.dm.dataset.classnames
    images = torch.stack([finished.transform(Image.open(path).convert("RGB")) for path in batch["impath"]])
    assert torch.equal(images, batch["img"])
    torch.testing.assert_close(finished.predictor()(images), expected, atol=1e-5, rtol=1e-5)
    order = [2, 0, 1]
    others = finished.predictor([finished.classnames[label] for label in order])(images)
    torch.testing.assert_close(others, expected[:, order], atol=1e-4, rtol=1e-4)
    assert finished.predictor(["wolf", "oak"])(images).isfinite().all()
    negative = finished.negative_prompt_learner()
    assert (negative is not None) == ("negative_prompt_learner" in run.trainer._models)
    if negative is not None:
        assert torch.equal(negative.ctx, run.trainer._models["negative_prompt_learner"].ctx)


def test_logits_of_an_image_do_not_depend_on_its_batch(run, monkeypatch):
    expected = torch.cat([logits(run.trainer, image[None]) for image in IMAGES])
    torch.testing.assert_close(logits(run.trainer, IMAGES), expected, atol=1e-4, rtol=1e-4)
    monkeypatch.setattr("trainers.cocoop.SEQUENCES", 10)  # two images of five classes at a time
    torch.testing.assert_close(logits(run.trainer, IMAGES), expected, atol=1e-4, rtol=1e-4)


def test_another_seed_gives_another_run(run, build_shared):
    other = build_shared(run.name, f"seed2/{run.name}", **settings_of(run.name) | {"SEED": 2})
    stopped_in_epoch(other, 1)
    first, second = (contents(trainer, 1) for trainer in (run.trainer, other))
    assert not any(same(first[module]["state_dict"], second[module]["state_dict"]) for module in first)


def test_loaded_weights_give_the_same_logits_and_work_with_new_classes(run, build_shared):
    expected = logits(run.trainer, IMAGES)
    fresh = build_shared(run.name, f"fresh/{run.name}", bank=False, **settings_of(run.name) | {"SEED": 3})
    assert not torch.equal(logits(fresh, IMAGES), expected)
    fresh.load_model(run.trainer.output_dir)
    assert torch.equal(logits(fresh, IMAGES), expected)
    new = build_shared(run.name, f"new/{run.name}", **settings_of(run.name) | {"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.load_model(run.trainer.output_dir, epoch=3)
    assert same(learned(new), learned(run.trainer))
    found = logits(new, IMAGES)
    assert found.shape == (5, 5) and torch.isfinite(found).all() and not torch.allclose(found, expected)
