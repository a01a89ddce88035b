"""Lists of the registered trainers, and helpers to train, stop and compare them."""

from pathlib import Path

import pytest
import torch
from dassl.engine import TRAINER_REGISTRY

from fdbpl.config import plain
from fdbpl.engine import registry
from fdbpl.runs import RunFolder
from trainers.zsclip import ZeroshotTrainer

NO_GRADIENT = "VPT_image_trans.conv1.0.bias"  # a bias before PromptKD's batch norm, which removes constants


def trained() -> list[str]:
    """Return the names of all trainers with trained parameters, including those in new files in trainers/."""
    registry.import_trainers()
    classes = [TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()]
    return [cls.__name__ for cls in classes
            if cls.__module__.startswith("trainers.") and not issubclass(cls, ZeroshotTrainer)]  # fmt: skip


def student_of(name: str) -> str:
    """Return the method of a trainer: CoOp for CoOp_KDPL and FDBPL, MaPLe for FDBPL_MaPLe."""
    return "CoOp" if name == "FDBPL" else name.removeprefix("FDBPL_").removesuffix("_KDPL")


def cfg_key_of(name: str) -> str:
    """Return the key of a trainer's settings below TRAINER."""
    return TRAINER_REGISTRY.get(name).settings_key().removeprefix("TRAINER.")


def one_of_each_student() -> list[str]:
    """Return one trainer for each section of settings."""
    return list({cfg_key_of(name): name for name in reversed(trained())}.values())


def finish_run_folder(trainer) -> Path:
    """Write the files that train.py adds to the checkpoints of a trained trainer; return its run folder."""
    folder = RunFolder(trainer.cfg.OUTPUT_DIR, plain(trainer.cfg), "train")
    folder.start(trainer.cfg.dump())
    metrics = {"trainer": trainer.cfg.TRAINER.NAME, **trainer.results}
    folder.finish({**metrics, "dataset": trainer.cfg.DATASET.NAME, "protocol": trainer.dm.dataset.protocol})
    return folder.path


def learned(trainer) -> dict[str, torch.Tensor]:
    """Return copies of the trained parameters by module.parameter."""
    return {f"{name}.{key}": value.detach().clone() for name, module in trainer._models.items()
            for key, value in module.named_parameters()}  # fmt: skip


def logits(trainer, images: torch.Tensor) -> torch.Tensor:
    """Return the logits of an evaluation."""
    trainer.set_model_mode("eval")
    with torch.no_grad():
        return trainer.predictor()(images)


def first_batch(trainer):
    """Return the first training batch, as the supervision reads it."""
    trainer.build_supervision()
    return trainer.parse_batch_train(next(iter(trainer.train_loader_x)))


def same(first, second) -> bool:
    """Return whether nested tensors and values are equal bit for bit."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def recorded_steps(trainer) -> dict[tuple[int, int], tuple]:
    """Return a dictionary that training fills: learning rates and summary of each step by (epoch, batch)."""
    step, steps = trainer.forward_backward, {}

    def recording(batch):
        rates = {name: [group["lr"] for group in optimizer.param_groups] for name, optimizer in trainer._optims.items()}
        summary = step(batch)
        assert (trainer.epoch, trainer.batch_idx) not in steps
        steps[trainer.epoch, trainer.batch_idx] = (rates, summary)
        return summary

    trainer.forward_backward = recording
    return steps


class Stop(Exception):
    """Simulated kill of a training run."""


def stopped_in_epoch(trainer, epoch: int):
    """Train until the second batch of an epoch, counted from 0, and stop there; return the trainer."""
    step = trainer.forward_backward

    def stopping(batch):
        if trainer.epoch == epoch and trainer.batch_idx == 1:
            raise Stop
        return step(batch)

    trainer.forward_backward = stopping
    with pytest.raises(Stop):
        trainer.train()
    return trainer
