"""A number that is none stops the run, is named, and never reaches a checkpoint."""

from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.errors import UserError

from .methods import Stop, learnt, one_of_each_student, recorded_steps, same, stop_in_epoch

SETTINGS = {"OPTIM.MAX_EPOCH": 3, "TRAIN.CHECKPOINT_FREQ": 1}


def after_each_step(trainer, act) -> None:
    """Call `act` behind each update of what is learnt."""
    update = trainer.model_update

    def updated(names=None):
        update(names)
        act()

    trainer.model_update = updated


def poison(trainer, parameter: torch.nn.Parameter, epoch: int, batch: int) -> None:
    """Let the step of `epoch` and `batch`, counted from 0, leave an infinity in a learnt tensor."""

    def act():
        if (trainer.epoch, trainer.batch_idx) == (epoch, batch):
            parameter.data.view(-1)[1] = float("inf")

    after_each_step(trainer, act)


def kept(trainer) -> list[int]:
    """Epochs that all checkpoint folders agree on; each of them holds finite numbers only."""
    epochs = {tuple(checkpoint.epochs(Path(trainer.output_dir, name))) for name in trainer._models}
    assert len(epochs) == 1
    for name in trainer._models:
        for epoch in min(epochs):
            state = checkpoint.read(Path(trainer.output_dir, name, f"model.pth.tar-{epoch}"))["state_dict"]
            assert all(torch.isfinite(value).all() for value in state.values())
    return list(min(epochs))


@pytest.mark.parametrize("name", one_of_each_student())
def test_a_far_too_large_learning_rate(name, build, build_shared):
    """The first epoch is a warm-up and good; what the second makes is not kept."""
    trainer = build_shared(name, f"diverging/{name}", **SETTINGS, **{"OPTIM.LR": 1e30})
    with pytest.raises(UserError, match=r"diverged at epoch 2 batch 2: .*Lower OPTIM.LR.*epoch 1 is kept"):
        trainer.train()
    assert kept(trainer) == [1]
    again = build_shared(name, f"sane/{name}", **SETTINGS)
    again.load_model(trainer.output_dir)
    again.test()
    assert 0 <= again.results["accuracy"] <= 100


def test_the_same_command_again_leaves_the_last_good_state_alone(build):
    """It goes on from there, meets the same end and says so again."""
    settings = SETTINGS | {"OPTIM.LR": 1e30, "TEST.FINAL_MODEL": "best_val"}
    said, left = [], []
    for _ in range(2):
        trainer = build("FDBPL", **settings)
        with pytest.raises(UserError, match=r"at epoch 2 batch 2: .*Lower OPTIM.LR.*epoch 1 is kept") as error:
            trainer.train()
        files = sorted(Path(trainer.output_dir).glob("*/model*"))
        said.append(str(error.value))
        left.append({file: file.read_bytes() for file in files})
    assert said[0] == said[1] and left[0] == left[1]
    assert [file.name for file in left[0]] == ["model-best.pth.tar", "model.pth.tar-1"] * 2


def test_the_term_is_named(build):
    trainer = build("CoOp", **SETTINGS)
    value = {2: float("nan")}
    trainer.student.regularization_losses = lambda view, outputs: {"pull": torch.tensor(value.get(trainer.epoch, 0.0))}
    with pytest.raises(UserError, match=r"diverged at epoch 3 batch 1: pull = nan.*epoch 2 is kept"):
        trainer.train()
    assert kept(trainer) == [1, 2] and all(torch.isfinite(value).all() for value in learnt(trainer).values())


def test_the_learnt_tensor_behind_a_term_is_named(build):
    trainer = build("MaPLe", **SETTINGS)
    poison(trainer, trainer.student.learner.prompt_learner.proj.bias, epoch=1, batch=0)
    said = r"MultiModalPromptLearner.prompt_learner.proj.bias contains NaN or Inf, cross_entropy = nan"
    with pytest.raises(UserError, match=said):
        trainer.train()
    assert kept(trainer) == [1]


def test_what_the_last_step_of_an_epoch_spoils_is_not_kept(build):
    trainer = build("FDBPL", **SETTINGS)
    poison(trainer, trainer.negative_prompt_learner.ctx, epoch=1, batch=1)
    with pytest.raises(UserError, match=r"epoch 2 batch 2: negative_prompt_learner.ctx contains NaN.*epoch 1 is"):
        trainer.train()
    assert kept(trainer) == [1]


def test_batch_statistics_count_as_learnt(build):
    trainer = build("PromptKD", **SETTINGS)
    norm = trainer.student.learner.VPT_image_trans.conv1[1]
    after_each_step(trainer, lambda: norm.running_var.fill_(float("nan")))
    with pytest.raises(UserError, match=r"epoch 1 batch 2: .*conv1.1.running_var contains NaN.*no checkpoint yet"):
        trainer.train()
    assert kept(trainer) == []


def steep(parameter: torch.Tensor) -> torch.Tensor:
    """0, with a gradient that is no number."""
    return (0 * parameter).sum().sqrt()


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_no_number_is_named_by_its_tensor(build, clip):
    trainer = build("FDBPL", **SETTINGS, **{"OPTIM.CLIP_GRAD_NORM": clip})
    terms = trainer.compute_losses
    trainer.compute_losses = lambda view: {**terms(view), "pull": steep(trainer.negative_prompt_learner.ctx)}
    with pytest.raises(UserError, match=r"epoch 1 batch 1: the gradient of negative_prompt_learner.ctx is nan"):
        trainer.train()
    assert all(torch.isfinite(value).all() for value in learnt(trainer).values())


def with_a_scaler(trainer) -> None:
    """Loss scaling as under amp, which a GPU alone offers; the scaler itself runs anywhere."""
    trainer.scale_losses(True)


def overflow_in(trainer, spoilt) -> None:
    """Let the gradient of CoOp's context be no number where `spoilt(epoch, batch)`, both counted from 0."""
    terms, context = trainer.compute_losses, trainer.student.prompt_learner.ctx

    def compute_losses(view):
        return terms(view) | ({"pull": steep(context)} if spoilt(trainer.epoch, trainer.batch_idx) else {})

    trainer.compute_losses = compute_losses


def test_the_loss_scale_and_the_skipped_steps_are_kept_over_epochs_and_on_resume(build, capsys):
    def scaled():
        trainer = build("CoOp", **SETTINGS)
        with_a_scaler(trainer)
        overflow_in(trainer, lambda epoch, batch: batch == 0)  # one of the two steps of each epoch
        return trainer

    broken = scaled()
    stop_in_epoch(broken, 2)
    with pytest.raises(Stop):
        broken.train()
    capsys.readouterr()
    resumed = scaled()
    resumed.train()
    assert resumed.scaler.get_scale() == 2.0**12 / 2**3 and resumed.skipped_steps == 3
    assert "Epoch 3: 1 of 2 steps were skipped" in capsys.readouterr().out


def test_an_epoch_without_a_step_is_an_error(build):
    trainer = build("CoOp", **SETTINGS)
    with_a_scaler(trainer)
    overflow_in(trainer, lambda epoch, batch: epoch == 1)
    with pytest.raises(UserError, match="No training step was taken in epoch 2: .* all 2 batches overflowed"):
        trainer.train()
    assert kept(trainer) == [1]


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_an_overflow_of_one_learner_skips_the_step_of_all(build, clip):
    trainer = build("FDBPL", **{"OPTIM.CLIP_GRAD_NORM": clip, "OPTIM.MAX_EPOCH": 1})
    with_a_scaler(trainer)
    terms, negative, seen = trainer.compute_losses, trainer.negative_prompt_learner.ctx, []

    def compute_losses(view):
        seen.append(learnt(trainer))
        return terms(view) | ({"pull": steep(negative)} if trainer.batch_idx == 0 else {})

    trainer.compute_losses = compute_losses
    trainer.train()
    assert same(seen[0], seen[1])
    after = learnt(trainer)
    assert all(value.isfinite().all() and not torch.equal(value, seen[0][name]) for name, value in after.items())


def test_skipped_steps_are_counted_in_the_metrics(train_py):
    assert train_py.metrics(train_py("CoOp", "run"))["skipped_steps"] == 0


@pytest.mark.parametrize("spoilt, steps", [(2, 40), (40, 13)])
def test_loss_scaling_skips_a_few_steps_but_not_for_ever(build, spoilt, steps):
    """The first `spoilt` gradients are no numbers."""
    trainer = build("CoOp", **{"OPTIM.MAX_EPOCH": 2, "DATASET.NUM_SHOTS": 4, "DATALOADER.TRAIN_X.BATCH_SIZE": 1})
    with_a_scaler(trainer)
    context, terms, seen = trainer.student.prompt_learner.ctx, trainer.compute_losses, []
    start = context.detach().clone()

    def compute_losses(view):
        seen.append(view)
        return terms(view) | ({"pull": steep(context)} if len(seen) <= spoilt else {})

    trainer.compute_losses = compute_losses
    if spoilt > 13:
        with pytest.raises(UserError, match=r"epoch 1 batch 13: the gradient of prompt_learner.ctx is nan"):
            trainer.train()
    else:
        trainer.train()
    assert len(seen) == steps and torch.equal(context, start) == (spoilt > 13)


def test_a_parameter_that_loss_scaling_lets_through_is_not_kept(build):
    """The scaler looks at gradients alone."""
    trainer = build("CoOp", **SETTINGS)
    with_a_scaler(trainer)
    context, update = trainer.student.prompt_learner.ctx, trainer.after_epoch
    trainer.after_epoch = lambda: (context.data.fill_(float("inf")) if trainer.epoch == 1 else None, update())
    with pytest.raises(UserError, match=r"epoch 2 batch 2: prompt_learner.ctx contains NaN.*epoch 1 is kept"):
        trainer.train()
    assert kept(trainer) == [1]


def test_a_run_with_loss_scaling_resumes_exactly(build):
    """A step of the second epoch is skipped."""

    def scaled(output):
        trainer = build("CoOp", output, **SETTINGS)
        with_a_scaler(trainer)
        overflow_in(trainer, lambda epoch, batch: (epoch, batch) == (1, 0))
        return trainer, recorded_steps(trainer)

    straight, expected = scaled("straight")
    straight.train()
    broken, steps = scaled("broken")
    stop_in_epoch(broken, 2)
    with pytest.raises(Stop):
        broken.train()
    resumed, rest = scaled("broken")
    resumed.train()
    assert set(rest) == {(2, 0), (2, 1)} and repr(steps | rest) == repr(expected)
    assert same(learnt(resumed), learnt(straight))


def test_a_term_that_is_no_number_is_never_skipped(build):
    trainer = build("CoOp", **SETTINGS)
    with_a_scaler(trainer)
    trainer.student.regularization_losses = lambda view, outputs: {"pull": torch.tensor(float("nan"))}
    with pytest.raises(UserError, match=r"diverged at epoch 1 batch 1: pull = nan"):
        trainer.train()


def test_a_test_of_spoilt_weights_gives_no_accuracy(build):
    trainer = build("CoOp")
    trainer.student.prompt_learner.ctx.data.fill_(float("nan"))
    with pytest.raises(UserError, match="logits on the test set contain NaN"):
        trainer.test()
    assert trainer.results == {}
