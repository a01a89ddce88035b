"""The life cycle of every registered trainer: what moves, what is kept, stopping and going on, loading."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from fdbpl.engine import checkpoint
from fdbpl.engine.trained_run import TrainedRun

from .methods import (
    NO_GRADIENT,
    Stop,
    as_train_py_leaves_it,
    learnt,
    logits,
    recorded_steps,
    same,
    stop_in_epoch,
    student_of,
    trained,
)  # fmt: skip

FOLDERS = {"MaPLe": "MultiModalPromptLearner"} | dict.fromkeys(("IVLP", "PromptSRC", "PromptKD"), "VLPromptLearner")
# without weight decay gradients alone move something
SETTINGS = {"OPTIM.MAX_EPOCH": 3, "TRAIN.CHECKPOINT_FREQ": 1, "OPTIM.WEIGHT_DECAY": 0.0}


def settings_of(name: str) -> dict:
    """Adam, as TCP's official code; SGD for the others."""
    return SETTINGS | ({"OPTIM.NAME": "adam", "OPTIM.LR": 0.002} if student_of(name) == "TCP" else {})


def frozen(trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trainer.student.backbone.model.state_dict().items()}


@pytest.fixture(scope="module", params=trained())
def run(request, build_shared) -> SimpleNamespace:
    """One whole run of a trainer, with its state before."""
    name = request.param
    trainer = build_shared(name, f"straight/{name}", **settings_of(name))
    start, clip, steps = learnt(trainer), frozen(trainer), recorded_steps(trainer)
    trainer.train()
    return SimpleNamespace(name=name, trainer=trainer, start=start, clip=clip, steps=steps)


def contents(trainer, epoch: int) -> dict:
    """Everything that the checkpoints of an epoch hold."""
    return {name: checkpoint.read(Path(trainer.output_dir, name, f"model.pth.tar-{epoch}")) for name in trainer._models}


def test_every_learnt_tensor_moves_and_nothing_else(run):
    assert run.start, "nothing learnt"
    for name, value in learnt(run.trainer).items():
        if not name.endswith(NO_GRADIENT):
            assert (value - run.start[name]).abs().max() > 1e-6 * run.start[name].abs().max(), name
    assert same(frozen(run.trainer), run.clip)
    assert all(value.grad is None for value in run.trainer.student.backbone.model.parameters())
    assert 0 <= run.trainer.results["accuracy"] <= 100


def test_checkpoints_have_their_official_folders(run):
    folders = {FOLDERS.get(student_of(run.name), "prompt_learner")}
    if run.name.startswith("FDBPL") and run.trainer.student.learns_text:
        folders.add("negative_prompt_learner")
    assert {path.parent.name for path in Path(run.trainer.output_dir).glob("*/checkpoint")} == folders
    for folder in folders:
        assert checkpoint.epochs(Path(run.trainer.output_dir, folder)) == [1, 2, 3]
        clip = [key for key in contents(run.trainer, 3)[folder]["state_dict"] if key.endswith("attn.in_proj_weight")]
        assert not clip  # the frozen CLIP is not carried along


def test_stopped_twice_and_resumed_it_is_the_straight_run(run, build_shared, capsys):
    settings, steps = settings_of(run.name), {}
    for epoch in (1, 2):  # in the middle of the second and of the third
        broken = build_shared(run.name, f"broken/{run.name}", **settings)
        made = recorded_steps(broken)
        stop_in_epoch(broken, epoch)
        with pytest.raises(Stop):
            broken.train()
        assert set(made) == {(epoch - 1, 0), (epoch - 1, 1), (epoch, 0)}  # no finished epoch is computed again
        steps.update(made)
    resumed = build_shared(run.name, f"broken/{run.name}", **settings)
    made = recorded_steps(resumed)
    capsys.readouterr()
    resumed.train()
    assert "Resuming from epoch 2" in capsys.readouterr().out
    assert len(run.steps) == 6 and {**steps, **made} == run.steps  # rates and losses, bit for bit
    for epoch in (1, 2, 3):
        assert same(contents(resumed, epoch), contents(run.trainer, epoch)), epoch
    assert same(learnt(resumed), learnt(run.trainer)) and resumed.results == run.trainer.results
    tested = build_shared(run.name, f"broken/{run.name}", **settings)  # as if it had died in its last test
    made = recorded_steps(tested)
    tested.train()
    assert not made and same(learnt(tested), learnt(run.trainer)) and tested.results == run.trainer.results


def test_taken_up_from_its_folder_it_says_the_same(run):
    """The finished run alone, without its data set: the logits of the test images, for its classes and for others."""
    folder = as_train_py_leaves_it(run.trainer)
    batch = next(iter(run.trainer.test_loader))
    expected = logits(run.trainer, batch["img"])
    finished = TrainedRun(folder)
    assert finished.classnames == run.trainer.dm.dataset.classnames
    images = torch.stack([finished.transform(Image.open(path).convert("RGB")) for path in batch["impath"]])
    assert torch.equal(images, batch["img"])
    found = finished.predictor()(images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    order = [2, 0, 1]
    others = finished.predictor([finished.classnames[label] for label in order])(images)
    torch.testing.assert_close(others, expected[:, order], atol=1e-4, rtol=1e-4)
    assert finished.predictor(["wolf", "oak"])(images).isfinite().all()
    negative = finished.negative_prompt_learner()
    assert (negative is not None) == ("negative_prompt_learner" in run.trainer._models)
    if negative is not None:
        assert torch.equal(negative.ctx, run.trainer._models["negative_prompt_learner"].ctx)


def test_an_image_s_logits_do_not_depend_on_its_batch(run, monkeypatch):
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([logits(run.trainer, image[None]) for image in images])
    torch.testing.assert_close(logits(run.trainer, images), expected, atol=1e-4, rtol=1e-4)
    monkeypatch.setattr("trainers.cocoop.SEQUENCES", 10)  # two images of five classes at a time
    torch.testing.assert_close(logits(run.trainer, images), expected, atol=1e-4, rtol=1e-4)


def test_another_seed_is_another_run(run, build_shared):
    other = build_shared(run.name, f"seed2/{run.name}", **settings_of(run.name) | {"SEED": 2})
    stop_in_epoch(other, 1)
    with pytest.raises(Stop):
        other.train()
    first, second = (contents(trainer, 1) for trainer in (run.trainer, other))
    for module in first:
        assert not same(first[module]["state_dict"], second[module]["state_dict"])


def test_loaded_it_says_the_same_and_serves_new_classes(run, build_shared):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = logits(run.trainer, images)
    # without training neither a teacher nor a bank is asked, PromptKD's class features excepted
    fresh = build_shared(run.name, f"fresh/{run.name}", **settings_of(run.name) | {"SEED": 3})
    assert not torch.equal(logits(fresh, images), expected)
    fresh.load_model(run.trainer.output_dir)
    assert torch.equal(logits(fresh, images), expected)
    new = build_shared(run.name, f"new/{run.name}", **settings_of(run.name) | {"DATASET.SUBSAMPLE_CLASSES": "new"})
    new.load_model(run.trainer.output_dir, epoch=3)
    assert same(learnt(new), learnt(run.trainer))
    found = logits(new, images)
    assert found.shape == (3, 5) and torch.isfinite(found).all() and not torch.allclose(found, expected)
