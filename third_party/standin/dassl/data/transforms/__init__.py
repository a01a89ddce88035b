"""Image transforms, imported at first use: the import of torchvision takes longer than all other imports of Dassl."""

import importlib

__all__ = ["INTERPOLATION_MODES", "build_transform"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("dassl.data.transforms.transforms"), name)
