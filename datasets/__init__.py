"""What prompts learn from: one file a data set, found by walking this folder."""

import importlib
import pkgutil

from yacs.config import CfgNode


def extend_cfg(cfg: CfgNode) -> None:
    """Add the configuration keys of all data sets; importing their modules registers them."""
    for module in pkgutil.iter_modules(__path__):
        add = getattr(importlib.import_module(f"{__name__}.{module.name}"), "extend_cfg", None)
        if add is not None:
            add(cfg)
