"""Which trainers there are, and what tests ask of all of them."""

from pathlib import Path

import torch
from dassl.engine import TRAINER_REGISTRY

from fdbpl.config import plain
from fdbpl.engine import registry
from fdbpl.runs import RunFolder
from trainers.zsclip import ZeroshotTrainer

NO_GRADIENT = "VPT_image_trans.conv1.0.bias"  # PromptKD's batch norm behind it takes every constant away


def trained() -> list[str]:
    """Every registered trainer of ours that learns something; a new file in trainers/ is in it by itself."""
    registry.import_trainers()
    classes = [TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()]
    return [cls.__name__ for cls in classes
            if cls.__module__.startswith("trainers.") and not issubclass(cls, ZeroshotTrainer)]  # fmt: skip


def student_of(name: str) -> str:
    """The method whose prompts a trainer learns: CoOp of CoOp_KDPL and FDBPL, MaPLe of FDBPL_MaPLe."""
    return "CoOp" if name == "FDBPL" else name.removeprefix("FDBPL_").removesuffix("_KDPL")


def node_of(name: str) -> str:
    """TRAINER.<node> with a trainer's settings."""
    trainer = TRAINER_REGISTRY.get(name)
    return trainer.cfg_key or trainer.student_class.cfg_key


def one_of_each_student() -> list[str]:
    """One trainer for each node of settings."""
    return list({node_of(name): name for name in reversed(trained())}.values())


def as_train_py_leaves_it(trainer) -> Path:
    """The folder of a trained trainer, with the files that train.py writes around its checkpoints."""
    folder = RunFolder(trainer.cfg.OUTPUT_DIR, plain(trainer.cfg), "train")
    folder.start(trainer.cfg.dump())
    metrics = {"trainer": trainer.cfg.TRAINER.NAME, **trainer.results}
    folder.finish({**metrics, "dataset": trainer.cfg.DATASET.NAME, "protocol": trainer.dm.dataset.protocol})
    return folder.path


def learnt(trainer) -> dict[str, torch.Tensor]:
    """A copy of every learnt tensor, as module.parameter."""
    return {f"{name}.{key}": value.detach().clone() for name, module in trainer._models.items()
            for key, value in module.named_parameters()}  # fmt: skip


def logits(trainer, images: torch.Tensor) -> torch.Tensor:
    """What a test would rank."""
    trainer.set_model_mode("eval")
    with torch.no_grad():
        return trainer.predictor()(images)


def same(first, second) -> bool:
    """Whether two contents of checkpoints are equal, bit for bit."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def recorded_steps(trainer) -> dict[tuple[int, int], tuple]:
    """Fills with the learning rates and the numbers of each step's summary, by epoch and batch, as the trainer goes."""
    step, seen = trainer.forward_backward, {}

    def recording(batch):
        rates = {name: [group["lr"] for group in optimiser.param_groups] for name, optimiser in trainer._optims.items()}
        summary = step(batch)
        assert (trainer.epoch, trainer.batch_idx) not in seen
        seen[trainer.epoch, trainer.batch_idx] = (rates, summary)
        return summary

    trainer.forward_backward = recording
    return seen


class Stop(Exception):
    """The end of a run that somebody kills."""


def stop_in_epoch(trainer, epoch: int) -> None:
    """Let the trainer die in the middle of an epoch, counted from 0."""
    step = trainer.forward_backward

    def dying(batch):
        if trainer.epoch == epoch and trainer.batch_idx == 1:
            raise Stop
        return step(batch)

    trainer.forward_backward = dying
