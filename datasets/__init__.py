"""The data sets that prompts learn from; each module registers its classes with Dassl."""

import importlib
import pkgutil

from yacs.config import CfgNode

from fdbpl.data import split_dataset


def extend_cfg(cfg: CfgNode) -> None:
    """Add the configuration keys of all data sets. Importing their modules registers the classes."""
    split_dataset.extend_cfg(cfg)
    for module in pkgutil.iter_modules(__path__):
        add = getattr(importlib.import_module(f"{__name__}.{module.name}"), "extend_cfg", None)
        if add is not None:
            add(cfg)
