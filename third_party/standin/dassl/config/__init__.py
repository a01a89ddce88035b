"""The configuration every run starts from."""

from dassl.config.defaults import default_config
from yacs.config import CfgNode

__all__ = ["clean_cfg", "get_cfg_default"]


def get_cfg_default() -> CfgNode:
    """A fresh copy of the defaults."""
    return default_config()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the configuration nodes of all trainers but `trainer`."""
    for name in list(cfg.TRAINER):
        if name not in ("NAME", trainer.upper()):
            cfg.TRAINER.pop(name)
