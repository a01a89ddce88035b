"""NaN and Inf stop a training with a message that names them, and never reach a checkpoint; loss scaling."""

from pathlib import Path

import pytest
import torch

from fdbpl.engine import checkpoint
from fdbpl.engine.optimization import INITIAL_LOSS_SCALE, DivergenceError, Optimization
from fdbpl.errors import UserError

from .methods import learned, one_of_each_student, recorded_steps, same, stopped_in_epoch

SETTINGS = {"OPTIM.MAX_EPOCH": 3, "TRAIN.CHECKPOINT_FREQ": 1}


def after_each_step(trainer, act) -> None:
    """Call `act` after each update of the trained parameters."""
    update = trainer.model_update
    trainer.model_update = lambda names=None: (update(names), act())


def corrupt(trainer, parameter: torch.nn.Parameter, epoch: int, batch: int) -> None:
    """Let the step of `epoch` and `batch`, counted from 0, leave an infinity in a parameter."""

    def act():
        if (trainer.epoch, trainer.batch_idx) == (epoch, batch):
            parameter.data.view(-1)[1] = float("inf")

    after_each_step(trainer, act)


def nan_gradient(parameter: torch.Tensor) -> torch.Tensor:
    """Return 0 with a gradient of NaN."""
    return (0 * parameter).sum().sqrt()


def add_loss(trainer, loss) -> None:
    """Add `loss()` to the losses of each batch."""
    losses = trainer.compute_losses
    trainer.compute_losses = lambda batch: {**losses(batch), "pull": loss()}


def saved_epochs(trainer) -> list[int]:
    """Return the epochs with a checkpoint of every module; check that all values are finite."""
    (epochs,) = {tuple(checkpoint.epochs(Path(trainer.output_dir, name))) for name in trainer._models}
    for name in trainer._models:
        for epoch in epochs:
            state = checkpoint.read(Path(trainer.output_dir, name, f"model.pth.tar-{epoch}"))["state_dict"]
            assert all(torch.isfinite(value).all() for value in state.values())
    return list(epochs)


@pytest.mark.parametrize("name", one_of_each_student())
def test_a_far_too_large_learning_rate(name, build_shared):
    """The first epoch is a warm-up with a valid checkpoint."""
    trainer = build_shared(name, f"diverging/{name}", **SETTINGS, **{"OPTIM.LR": 1e30})
    with pytest.raises(UserError, match=r"diverged at epoch 2 batch 2: .*Lower OPTIM.LR.*epoch 1 is kept"):
        trainer.train()
    assert saved_epochs(trainer) == [1]


def test_a_repeated_command_diverges_again_and_changes_no_checkpoint(build):
    settings = SETTINGS | {"OPTIM.LR": 1e30, "TEST.FINAL_MODEL": "best_val"}
    messages, contents = [], []
    for _ in range(2):
        trainer = build("FDBPL", **settings)
        with pytest.raises(UserError, match=r"at epoch 2 batch 2: .*epoch 1 is kept") as error:
            trainer.train()
        messages.append(str(error.value))
        contents.append({file: file.read_bytes() for file in sorted(Path(trainer.output_dir).glob("*/model*"))})
    assert messages[0] == messages[1] and contents[0] == contents[1]
    assert [file.name for file in contents[0]] == ["model-best.pth.tar", "model.pth.tar-1"] * 2


FAULTS = {
    "a loss": (
        "CoOp",
        lambda trainer: add_loss(trainer, lambda: torch.tensor(float("nan") if trainer.epoch == 2 else 0.0)),
        "epoch 3 batch 1: pull = nan.*epoch 2 is kept", [1, 2]),
    "a parameter that spoils the next loss": (
        "MaPLe",
        lambda trainer: corrupt(trainer, trainer.student.learner.prompt_learner.proj.bias, 1, 0),
        r"MultiModalPromptLearner.prompt_learner.proj.bias contains NaN or Inf, cross_entropy = nan", [1]),
    "a parameter after the last step of an epoch": (
        "FDBPL",
        lambda trainer: corrupt(trainer, trainer.negative_prompt_learner.ctx, 1, 1),
        "epoch 2 batch 2: negative_prompt_learner.ctx contains NaN.*epoch 1 is kept", [1]),
    "batch statistics": (
        "PromptKD",
        lambda trainer: after_each_step(
            trainer, lambda: trainer.student.learner.VPT_image_trans.conv1[1].running_var.fill_(float("nan"))),
        r"epoch 1 batch 2: .*conv1.1.running_var contains NaN.*no checkpoint yet", []),
    "a gradient": (
        "FDBPL",
        lambda trainer: add_loss(trainer, lambda: nan_gradient(trainer.negative_prompt_learner.ctx)),
        "epoch 1 batch 1: the gradient of negative_prompt_learner.ctx is nan", []),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_the_message_names_the_fault(build, case):
    name, spoil, message, epochs = FAULTS[case]
    trainer = build(name, **SETTINGS, **{"OPTIM.CLIP_GRAD_NORM": 1.0 if case == "a gradient" else 0.0})
    spoil(trainer)
    with pytest.raises(UserError, match=message):
        trainer.train()
    assert saved_epochs(trainer) == epochs


def test_a_test_of_nan_weights_gives_no_accuracy(build):
    trainer = build("CoOp")
    trainer.student.prompt_learner.ctx.data.fill_(float("nan"))
    with pytest.raises(UserError, match="logits on the test set contain NaN"):
        trainer.test()
    assert trainer.results == {}


# Loss scaling: PREC fp16 and amp need a GPU, but the scaler works on a CPU -----------------------------------------


def scale_losses(trainer) -> None:
    trainer.optimization.scaler = torch.amp.GradScaler("cpu", init_scale=INITIAL_LOSS_SCALE)


def overflow_in(trainer, overflows) -> None:
    """Scale the losses; the gradient of CoOp's context overflows if `overflows(epoch, batch)`, counted from 0."""
    scale_losses(trainer)
    context = trainer.student.prompt_learner.ctx
    add_loss(
        trainer,
        lambda: nan_gradient(context) if overflows(trainer.epoch, trainer.batch_idx) else torch.zeros(()),
    )


def optimization(size: int = 2) -> Optimization:
    """Optimization of a vector, and of another one that never overflows, with loss scaling on the CPU."""
    modules = {name: torch.nn.ParameterDict({"w": torch.ones(size)}) for name in ("first", "second")}
    optimizers = {name: torch.optim.SGD(module.parameters(), 0.1) for name, module in modules.items()}
    return Optimization(modules, optimizers, torch.device("cpu"), scales_losses=True, max_norm=0.0)


def take_step(steps: Optimization, gradient: float) -> dict[str, float]:
    """Step with this gradient of the first module, already scaled, and 1 in the second."""
    steps.modules["first"]["w"].grad = torch.full((2,), gradient)
    steps.modules["second"]["w"].grad = torch.ones(2)
    update = lambda: [optimizer.step() for optimizer in steps.optimizers.values()]  # noqa: E731
    steps.scaler.scale(torch.zeros(()))  # creates the scale
    return steps.step({"loss_of_this_test": torch.tensor(2.0)}, {"acc": torch.tensor(50.0)}, update)


def test_an_overflow_skips_the_step_of_all_modules_and_halves_the_scale():
    steps = optimization()
    assert take_step(steps, float("inf")) == {"loss": 2.0, "loss_of_this_test": 2.0, "acc": 50.0}
    assert steps.skipped_steps == 1 and steps.scaler.get_scale() == INITIAL_LOSS_SCALE / 2
    assert all((module["w"] == 1).all() for module in steps.modules.values())
    take_step(steps, 1.0)
    assert steps.skipped_steps == 1 and all((module["w"] < 1).all() for module in steps.modules.values())


def test_overflows_in_a_row_are_an_error_at_scale_one():
    steps = optimization()
    for _ in range(12):
        take_step(steps, float("nan"))
    assert steps.scaler.get_scale() == 1.0
    with pytest.raises(DivergenceError, match="the gradient of first.w is nan"):
        take_step(steps, float("nan"))


def test_epochs_without_a_step_are_reported_and_the_training_continues(build, capsys):
    """Short epochs with a large loss (PromptKD) overflow at the initial scale until the scale fits."""
    trainer = build("CoOp", **SETTINGS)
    overflow_in(trainer, lambda epoch, batch: epoch < 2)
    start = learned(trainer)
    trainer.train()
    out = capsys.readouterr().out
    assert "Epoch 1: 2 of 2 steps were skipped" in out and "the loss scale is now 256" in out
    assert trainer.skipped_steps == 4 and not same(learned(trainer), start)


def test_a_training_without_any_step_is_an_error(build):
    for _ in range(2):  # and again when it resumes
        trainer = build("CoOp", **SETTINGS)
        overflow_in(trainer, lambda epoch, batch: True)
        with pytest.raises(UserError, match="took no step: the float16 gradients of all 6 batches overflowed"):
            trainer.train()
        assert saved_epochs(trainer) == [1, 2]


def test_a_nan_loss_is_never_skipped(build):
    trainer = build("CoOp", **SETTINGS)
    scale_losses(trainer)
    add_loss(trainer, lambda: torch.tensor(float("nan")))
    with pytest.raises(UserError, match=r"diverged at epoch 1 batch 1: pull = nan"):
        trainer.train()


def test_a_training_with_loss_scaling_resumes_exactly(build, capsys):
    """One step of each epoch is skipped; checkpoints keep the scale and the number."""

    def scaled(output):
        trainer = build("CoOp", output, **SETTINGS)
        overflow_in(trainer, lambda epoch, batch: batch == 0)
        return trainer, recorded_steps(trainer)

    uninterrupted, expected = scaled("uninterrupted")
    uninterrupted.train()
    broken, steps = scaled("broken")
    stopped_in_epoch(broken, 2)
    resumed, rest = scaled("broken")
    capsys.readouterr()
    resumed.train()
    assert set(rest) == {(2, 0), (2, 1)} and repr(steps | rest) == repr(expected)
    assert same(learned(resumed), learned(uninterrupted))
    assert resumed.optimization.scaler.get_scale() == INITIAL_LOSS_SCALE / 2**3 and resumed.skipped_steps == 3
    assert "Epoch 3: 1 of 2 steps were skipped" in capsys.readouterr().out
