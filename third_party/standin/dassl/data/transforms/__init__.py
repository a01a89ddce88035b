"""Image -> tensor. Loaded when first asked for: importing torchvision takes longer than all the rest."""

import importlib

__all__ = ["INTERPOLATION_MODES", "build_transform", "build_unaugmented"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("dassl.data.transforms.transforms"), name)
