"""Registry of trainers: registration with Dassl, discovery of the methods, and their configuration keys."""

import importlib
import importlib.util
import pkgutil
from types import ModuleType

from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import set_random_seed
from yacs.config import CfgNode

from fdbpl.data import registry as data_registry
from fdbpl.data.registry import CHECKOUT, is_of_checkout
from fdbpl.errors import UserError

from . import defaults
from .bank_spec import BankSpec
from .checks import assert_no_test_leakage
from .settings import check_settings
from .trainer import PromptTrainer

TRAINERS: dict[str, type[PromptTrainer]] = {}  # registered trainers of this project by name


def register(trainer: type[PromptTrainer]) -> type[PromptTrainer]:
    """Register a trainer with Dassl under its class name; a name that a fork already uses keeps the fork's trainer."""
    TRAINERS.setdefault(trainer.__name__, trainer)
    if trainer.__name__ not in TRAINER_REGISTRY.registered_names():
        TRAINER_REGISTRY.register()(trainer)
    return trainer


def _package() -> ModuleType:
    """Import the package of the methods: `fdbpl.trainers` of an installed wheel, else `trainers` of this checkout.

    Raises:
        UserError: fdbpl is not installed, and this checkout is not on the path.
    """
    if importlib.util.find_spec("fdbpl.trainers") is not None:
        return importlib.import_module("fdbpl.trainers")
    if not is_of_checkout("trainers"):
        raise UserError(
            f"The trainers of FDBPL cannot be imported. Run the command in {CHECKOUT}, or install the package: "
            f"pip install {CHECKOUT}"
        )
    return importlib.import_module("trainers")


def import_trainers() -> list[ModuleType]:
    """Import every module of the methods' package, which registers the trainers."""
    package = _package()
    modules = sorted(module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    return [importlib.import_module(module) for module in modules]


def extend_cfg(cfg: CfgNode) -> None:
    """Add the settings of all methods and supervisions to Dassl's defaults."""
    defaults.extend_cfg(cfg)
    for module in import_trainers():
        if hasattr(module, "extend_cfg"):
            module.extend_cfg(cfg)


def default_config() -> CfgNode:
    """Return Dassl's default configuration with the keys of this project; in a checkout those of its data sets as well.

    The data sets of a checkout are registered with Dassl as a side effect.
    """
    cfg = get_cfg_default()
    data_registry.extend_cfg(cfg)
    extend_cfg(cfg)
    return cfg


def trainer_names() -> list[str]:
    """Return the trainers' names: methods in alphabetical order, each followed by its KDPL and FDBPL variants."""
    import_trainers()
    package = _package().__name__

    def order(name: str) -> tuple[str, int]:
        method = "CoOp" if name == "FDBPL" else name.removeprefix("FDBPL_").removesuffix("_KDPL")
        return method, 2 if name.startswith("FDBPL") else int(name.endswith("_KDPL"))

    return sorted((name for name, trainer in TRAINERS.items() if trainer.__module__.startswith(package)), key=order)


def count_registered() -> int:
    """Return the number of trainers that Dassl knows; the names of the others were already in use."""
    return sum(TRAINER_REGISTRY.get(name) is TRAINERS[name] for name in trainer_names())


def region_bank_spec(cfg: CfgNode) -> BankSpec | None:
    """Return the region bank that a training of `cfg` reads, or None. Builds the data set, but no model.

    Raises:
        UserError: a setting cannot work, the data set cannot be built, or it is for tests only.
    """
    import_trainers()
    trainer = TRAINER_REGISTRY.get(cfg.TRAINER.NAME)
    if not (issubclass(trainer, PromptTrainer) and trainer.supervision_class.reads_bank):
        return None
    cfg = trainer.resolve_precisions(cfg)
    check_settings(cfg)
    if cfg.SEED >= 0:
        set_random_seed(cfg.SEED)  # as in a training, so that the same few-shot images are drawn
    dataset = build_dataset(cfg)
    assert_no_test_leakage(cfg, dataset)
    return trainer.bank_spec(cfg, dataset)
