"""Conversion of official configurations to ours."""


def settings_of(settings: dict, official: str, ours: str, **more) -> dict:
    """Return overrides that copy the official `TRAINER.<official>` to `TRAINER.<ours>`, for keys that exist in both."""
    from dassl.config import get_cfg_default

    from fdbpl.engine import registry

    known = get_cfg_default()
    registry.extend_cfg(known)
    node = settings["config"][f"TRAINER.{official}"]
    given = {key: value for key, value in node.items() if key in known.TRAINER[ours]} | {"PREC": "fp32"} | more
    return {f"TRAINER.{ours}.{key}": as_ours(known.TRAINER[ours][key], value) for key, value in given.items()}


def optimiser_of(settings: dict) -> dict:
    """Return overrides that copy the official OPTIM section."""
    return {f"OPTIM.{key}": value for key, value in settings["config"]["OPTIM"].items()}


def as_ours(default, value):
    return float(value) if isinstance(default, float) else value
