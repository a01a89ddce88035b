"""The trainers and their Dassl, for entry points of this package: a checkout's or the installed ones."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from fdbpl.errors import UserError

CHECKOUT = Path(__file__).resolve().parents[1]


def trainers() -> ModuleType:
    """The package of the trainers with Dassl behind it: `fdbpl.trainers` of an installed wheel (there Dassl is the
    installed one), else `trainers` of the checkout that `python -m` was started in (there third_party finds Dassl).

    Raises:
        UserError: neither is there.
    """
    if importlib.util.find_spec("fdbpl.trainers") is not None:
        try:
            importlib.import_module("dassl.engine")
        except ModuleNotFoundError as error:
            raise UserError(
                f"expected Dassl.pytorch to import beside the installed fdbpl, found {error}; install Dassl.pytorch as "
                "its README says, or run from a checkout of FDBPL, which brings a stand-in"
            ) from error
        importlib.import_module("fdbpl.third_party.dassl_patches").apply_patches()
        return importlib.import_module("fdbpl.trainers")
    found = importlib.util.find_spec("trainers")
    if found is None or not found.origin or Path(found.origin).resolve() != CHECKOUT / "trainers" / "__init__.py":
        raise UserError(
            f"expected FDBPL's trainers beside the package, found {'others' if found else 'none'}; run the command in "
            f"{CHECKOUT}, or install it: pip install {CHECKOUT}"
        )
    importlib.import_module("third_party").use_dassl()
    return importlib.import_module("trainers")


def register_datasets() -> Any:
    """Register the checkout's data sets with Dassl; returns Dassl's default configuration with their keys.

    Raises:
        UserError: neither a checkout nor an installed package with Dassl.
    """
    trainers()
    cfg = importlib.import_module("dassl.config").get_cfg_default()
    if (CHECKOUT / "datasets").is_dir():  # an installed package brings none
        importlib.import_module("datasets").extend_cfg(cfg)
    return cfg


def finished_run(folder: str | Path, device: str = "cpu") -> Any:
    """`trainers.finished_run.FinishedRun` of a run folder.

    Raises:
        UserError: no finished training run there.
    """
    module = importlib.import_module(f"{trainers().__name__}.finished_run")
    return module.FinishedRun(folder, device)
