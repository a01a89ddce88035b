"""Registry of data sets: registration of a checkout's classes with Dassl, and their configuration keys."""

import importlib
import importlib.util
from pathlib import Path

from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

CHECKOUT = Path(__file__).resolve().parents[2]


def is_of_checkout(name: str) -> bool:
    """Return whether the package that `import name` finds belongs to this checkout."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin is not None and Path(found.origin).resolve().parents[1] == CHECKOUT


def extend_cfg(cfg: CfgNode) -> None:
    """Register the data sets of a checkout with Dassl and add their keys; an installed package has none."""
    if is_of_checkout("datasets"):
        importlib.import_module("datasets").extend_cfg(cfg)


def defaults_of_dataset(name: str) -> dict:
    """Return the `config_defaults` of a data set's class; {} if no such class is registered."""
    if name not in DATASET_REGISTRY.registered_names():
        return {}
    return getattr(DATASET_REGISTRY.get(name), "config_defaults", {})
