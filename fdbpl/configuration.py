"""YAML files and KEY VALUE pairs -> a yacs configuration; every mistake in them ends in one sentence."""

import difflib
from ast import literal_eval
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from fdbpl.errors import UserError


def read_yaml(file: str) -> dict:
    """{"A.B": value} of a YAML file."""
    path = Path(file)
    if not path.is_file():
        near = sorted(str(other) for other in path.parent.glob("*.yaml"))
        raise UserError(f"expected a configuration file at {file}, found none; there are {', '.join(near) or 'none'}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"expected YAML in {file}, found {' '.join(str(error).split())}; mend the file") from error
    if not isinstance(content or {}, dict):
        raise UserError(f"expected KEY: VALUE pairs in {file}, found {type(content).__name__}; mend the file")
    return flatten(content or {})


def pairs(words: list[str]) -> dict:
    """["A.B", "1", ...] -> {"A.B": "1", ...}; the last of equal keys wins."""
    words = [word for word in words if word != "--"]
    if len(words) % 2:
        raise UserError(
            f"expected overrides as KEY VALUE pairs, found {len(words)} words ({' '.join(words)}); "
            "give each key its value"
        )
    return dict(zip(words[::2], words[1::2], strict=True))


def merge(cfg: CfgNode, values: dict, source: str) -> None:
    """Set dotted keys; an int is accepted for a float, a list for a tuple, true/false for a flag."""
    for key, value in values.items():
        node, name = find(cfg, key, source)
        node[name] = coerce(value, node[name], key, source)


def find(cfg: CfgNode, key: str, source: str) -> tuple[CfgNode, str]:
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node or isinstance(node[name], CfgNode):
        known = known_keys(cfg)
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        near = f"; did you mean {close[0]}?" if close else "; see configs/ for the keys there are"
        raise UserError(f"expected a configuration key, found {key!r} in {source}{near}")
    return node, name


PER_DATASET = "PER_DATASET."


def split_per_dataset(values: dict) -> tuple[dict, dict[str, dict]]:
    """A flat file's values without its PER_DATASET section, and that section as {condition: flat values}.

    Conditions are NAME (a data set), /SHOTS (a number of shots) or NAME/SHOTS.

    Raises:
        UserError: a condition without keys.
    """
    general = {key: value for key, value in values.items() if not key.startswith(PER_DATASET)}
    special: dict[str, dict] = {}
    for key in values.keys() - general.keys():
        condition, _, name = key.removeprefix(PER_DATASET).partition(".")
        if not name:
            raise UserError(f"expected keys below PER_DATASET.{condition}, found {values[key]!r}; give some")
        special.setdefault(condition, {})[name] = values[key]
    return general, special


def for_dataset(special: dict[str, dict], dataset: str, shots: int) -> dict:
    """The values of the conditions that hold, the narrower ones winning: /SHOTS, then NAME, then NAME/SHOTS."""
    chosen: dict = {}
    for condition in (f"/{shots}", dataset, f"{dataset}/{shots}"):
        chosen.update(special.get(condition, {}))
    return chosen


def known_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, value in cfg.items():
        keys += known_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else [prefix + name]
    return keys


def coerce(value: Any, default: Any, key: str, source: str) -> Any:
    """`value` in the type of `default`.

    Raises:
        UserError: it does not fit.
    """
    if isinstance(value, str) and not isinstance(default, str):
        try:
            value = literal_eval(value)
        except (ValueError, SyntaxError):
            value = {"true": True, "false": False}.get(value.lower(), value)
    kind = type(default)
    if default is None or type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind in (tuple, list) and isinstance(value, (tuple, list)):
        return kind(value)
    if kind is str and not isinstance(value, (dict, list, tuple)):
        return str(value)
    raise UserError(
        f"expected {kind.__name__} for {key} in {source} (e.g. {default!r}), found {value!r}; give a {kind.__name__}"
    )


def plain(cfg: CfgNode) -> dict:
    """The configuration as nested plain dicts, for JSON."""
    return {
        key: plain(value) if isinstance(value, CfgNode) else list(value) if isinstance(value, tuple) else value
        for key, value in cfg.items()
    }


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """{"A": {"B": 1}} -> {"A.B": 1}; tuples become lists, as they do in JSON."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + str(key)] = list(value) if isinstance(value, tuple) else value
    return flat
