"""What is trained: one short file per method, which is a student (what is learnt) x a supervision (what from).

Every module of this folder is found and imported by itself: a new method is one file that registers its trainer and,
where it has settings, defines `extend_cfg(cfg)`.
"""

import importlib
import pkgutil
from types import ModuleType

from yacs.config import CfgNode


def modules() -> list[ModuleType]:
    """Every module below this folder, imported; this is what registers the trainers with Dassl."""
    found = pkgutil.walk_packages(__path__, f"{__name__}.")
    return [importlib.import_module(module.name) for module in sorted(found, key=lambda module: module.name)]


def extend_cfg(cfg: CfgNode) -> None:
    """Add the settings of every trainer and supervision to Dassl's defaults."""
    for module in modules():
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)


def names() -> list[str]:
    """The registered trainers: methods in alphabetical order, each followed by its twins."""
    from .prompt_trainer import OURS

    modules()

    def order(name: str) -> tuple[str, int]:
        method = "CoOp" if name == "FDBPL" else name.removeprefix("FDBPL_").removesuffix("_KDPL")
        return method, 2 if name.startswith("FDBPL") else int(name.endswith("_KDPL"))

    return sorted((name for name, trainer in OURS.items() if trainer.__module__.startswith(__name__)), key=order)


def added() -> int:
    """How many of them Dassl knows: the others' names were taken."""
    from dassl.engine import TRAINER_REGISTRY

    from .prompt_trainer import OURS

    return sum(TRAINER_REGISTRY.get(name) is OURS[name] for name in names())


def region_bank_plan(cfg: CfgNode) -> dict | None:
    """Arguments of `fdbpl.regions.generate` for what a training run of `cfg` reads; None where it reads no bank.

    Only the data set is built: no student, no teacher.
    """
    from dassl.engine import TRAINER_REGISTRY

    modules()
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    plan = getattr(trainer, "region_bank_plan", None)
    return plan(cfg) if plan else None
