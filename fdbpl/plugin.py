"""Plug-in for a checkout of CoOp, MaPLe, PromptSRC or KDPL: two lines in its train.py.

    import fdbpl.plugin  # next to the imports of its own trainers

    def extend_cfg(cfg):
        ...
        fdbpl.plugin.extend_cfg(cfg)  # last

The checkout keeps its data sets, Dassl, flags, scripts and trainers; the trainers that it lacks are added:
`--trainer FDBPL`, `FDBPL_MaPLe`, `CoOp_KDPL` ... A region bank is generated when a training first needs it.
"""

import sys
from types import TracebackType

from yacs.config import CfgNode

from fdbpl.errors import UserError, exit_with_message


def extend_cfg(cfg: CfgNode) -> None:
    """Register the trainers whose names are free, and add their settings that `cfg` lacks.

    Raises:
        UserError: Dassl cannot be imported, or fdbpl is not installed as a package.
    """
    sys.excepthook = report_exception
    try:
        import dassl.engine  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            f"Dassl.pytorch cannot be imported ({error}). Install it as the checkout's README says"
        ) from error
    try:
        from fdbpl.engine import registry
        from fdbpl.third_party.dassl_patches import apply_patches
    except ImportError as error:
        raise UserError(
            f"fdbpl is not installed as a package ({error}). Run: pip install <the folder of FDBPL>"
        ) from error
    patched = apply_patches()
    known = "REGIONS" in cfg
    ours = cfg.clone()
    ours.defrost()
    registry.extend_cfg(ours)  # imports the trainers, which registers them
    ours.REGIONS.GENERATE = True  # no command of the checkout generates the bank
    add_missing(cfg, ours)
    if not known:
        patches = f"; Dassl on this torch, patched: {', '.join(patched)}" if patched else ""
        print(f"fdbpl.plugin: {registry.count_registered()} trainers added{patches}")


def add_missing(cfg: CfgNode, ours: CfgNode) -> None:
    """Add the keys of `ours` that `cfg` lacks; existing values stay."""
    frozen = cfg.is_frozen()
    cfg.defrost()
    for key, value in ours.items():
        if key not in cfg:
            cfg[key] = value
        elif isinstance(value, CfgNode) and isinstance(cfg[key], CfgNode):
            add_missing(cfg[key], value)
    if frozen:
        cfg.freeze()


def report_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print a one-line message for an expected failure, and the traceback of a bug; a `sys.excepthook`.

    Raises:
        SystemExit: with the exit code of an expected failure.
    """
    exit_with_message(error, interrupted="regions generated so far stay in the region bank")
    sys.__excepthook__(kind, error, traceback)
