"""Trainers and their registry."""

from dassl.engine.trainer import SimpleTrainer, TrainerBase, TrainerX
from dassl.utils import Registry, check_availability

__all__ = ["TRAINER_REGISTRY", "SimpleTrainer", "TrainerBase", "TrainerX", "build_trainer"]

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg) -> SimpleTrainer:
    """Construct the trainer that `cfg.TRAINER.NAME` names."""
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
