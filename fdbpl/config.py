"""YAML files and KEY VALUE pairs -> a yacs configuration; every mistake in them ends in one sentence."""

import difflib
import math
import os
import sys
from ast import literal_eval
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from fdbpl.errors import UserError, enumerated, quoted, shortened

BASE = "_BASE_"

# old name of a configuration key: present name
RENAMED_KEYS = {
    "DATASET.CACHE": "DATASET.FEWSHOT_DIR",
    "FEATURES.ROOT": "TEST.FEATURE_CACHE_DIR",
    "REGIONS.CONTENT": "REGIONS.TARGET",
    "REGIONS.FEATURES": "REGIONS.CACHE_STUDENT_FEATURES",
    "TRAINER.FDBPL.INFERENCE": "TRAINER.FDBPL.TEST_LOGITS",
}


def read_yaml(file: str | os.PathLike) -> dict:
    """{"A.B": value} of a YAML file, merged over the files that its key `_BASE_` names.

    `_BASE_` holds one path or a list of paths, relative to the file's folder; later files override earlier ones.

    Raises:
        UserError: a file is missing, no YAML, or its own base.
    """
    values: dict = {}
    for part in yaml_files(file):
        values.update(flatten({key: value for key, value in _load(part).items() if key != BASE}))
    return values


def yaml_files(file: str | os.PathLike) -> list[str]:
    """The files that `read_yaml` merges, in this order; the last one is `file` itself."""
    found: list[str] = []
    _add_files(os.path.normpath(file), found, ())
    return found


def _add_files(file: str, found: list[str], readers: tuple[str, ...]) -> None:
    """Append a file's bases, then the file. `readers` are the files whose `_BASE_` leads here."""
    if file in readers:
        raise UserError(f"{file} is its own {BASE}. Remove {BASE} from one of {enumerated(readers)}")
    if file in found:
        return
    bases = _load(file).get(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{BASE} in {file} must be a path or a list of paths, found {quoted(bases)}")
    for base in bases:
        _add_files(os.path.normpath(os.path.join(os.path.dirname(file), base)), found, (*readers, file))
    found.append(file)


def _load(file: str) -> dict:
    path = Path(file)
    if not os.path.isfile(path):  # a name too long for the system is no file either
        near = sorted(str(other) for other in path.parent.glob("*.yaml"))
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise UserError(f"The configuration file {file} {what}. Its folder holds {enumerated(near) or 'no YAML file'}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance({} if content is None else content, dict):
        raise UserError(f"{file} must hold KEY: VALUE pairs, found {type(content).__name__}")
    return content or {}


class _PlainLoader(yaml.SafeLoader):
    """YAML without what a configuration has no use for: keys twice, of which all but the last would count for nothing,
    and aliases, which can stand for more than fits into memory."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem=f"the alias *{event.anchor}", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value} twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def pairs(words: list[str]) -> dict:
    """["A.B", "1", ...] -> {"A.B": "1", ...}; the last of equal keys wins."""
    words = [word for word in words if word != "--"]
    for word in words[::2]:
        if word.startswith("--"):
            raise UserError(
                f"the flag {quoted(word)} is after the KEY VALUE pairs, where it would be read as a key. Put all flags "
                f"before the first pair ({shortened(words[0])})."
            )
        if "=" in word:
            key, _, value = word.partition("=")
            raise UserError(
                f"{quoted(word)} is not a KEY VALUE pair. Write the key and the value with a space in between: "
                f"{shortened(key)} {shortened(value) or 'VALUE'}"
            )
    if len(words) % 2:
        raise UserError(
            f"expected overrides as KEY VALUE pairs, found {len(words)} words ({shortened(' '.join(words))}); "
            "give each key its value"
        )
    return dict(zip(words[::2], words[1::2], strict=True))


# keys that no longer exist: the default, which is ignored, and the reason why no other value is accepted
REMOVED_KEYS = {
    "DATASET.ALLOW_PICKLE": (False, "pickled few-shot lists of CoOp are no longer read; equal seeds draw equal shots"),
}


def current_key(key: str) -> str:
    """The present name of a dotted key; keys that were never renamed are returned as they are."""
    return RENAMED_KEYS.get(key, key)


def rename_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values`, {"A.B": value} of a recorded run, under the present names of their keys, without removed keys."""
    return {current_key(key): value for key, value in values.items() if key not in REMOVED_KEYS}


@cache
def warn_renamed(key: str, source: str) -> None:
    """Print, once for each file or command line, the new name of a renamed key."""
    print(f"warning: {key} in {source} is now called {RENAMED_KEYS[key]}; the old name still works", file=sys.stderr)


def merge(cfg: CfgNode, values: dict, source: str) -> None:
    """Set dotted keys; an int is accepted for a float, a list for a tuple, true/false for a flag.

    Renamed keys are accepted with a warning, and removed keys with their default.

    Raises:
        UserError: an unknown or removed key, or a value of another kind.
    """
    for key, value in values.items():
        if key in REMOVED_KEYS:
            default, reason = REMOVED_KEYS[key]
            if str(value).lower() != str(default).lower():
                raise UserError(f"{key} in {source} was removed: {reason}. Remove the key.")
            continue
        if key in RENAMED_KEYS:
            warn_renamed(key, source)
            key = current_key(key)
        node, name = find(cfg, key, source)
        node[name] = coerce(value, node[name], key, source)


def find(cfg: CfgNode, key: str, source: str) -> tuple[CfgNode, str]:
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node or isinstance(node[name], CfgNode):
        known = known_keys(cfg)
        same = [other for other in known if other.casefold() == key.casefold()]
        close = same or difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.5)
        near = f"; did you mean {close[0]}?" if close else "; see configs/ for the keys there are"
        raise UserError(f"expected a configuration key, found {quoted(key)} in {source}{near}")
    return node, name


PER_DATASET = "PER_DATASET."


def split_per_dataset(values: dict, source: str = "the configuration") -> tuple[dict, dict[str, dict]]:
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
            raise UserError(
                f"expected keys below PER_DATASET.{condition} in {source}, found {quoted(values[key])}; give some"
            )
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
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = {"true": True, "false": False}.get(value.lower(), value)
    kind = type(default)
    if default is None:
        return value
    if kind is float and type(value) in (int, float) and _is_finite(value):
        return float(value)
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    if kind in (tuple, list) and isinstance(value, (tuple, list)) and all(_fits(entry, default) for entry in value):
        return kind(value)
    if kind is str and value is not None and not isinstance(value, (dict, list, tuple)):
        return str(value)
    if kind not in (float, tuple, list, str) and type(value) is kind:
        return value
    raise UserError(
        f"expected {kind.__name__} for {key} in {source} (e.g. {default!r}), found {quoted(value)}; "
        f"give a {kind.__name__}"
    )


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that no float holds
        return False


def _fits(entry: Any, default: tuple | list) -> bool:
    """Whether an entry is of the kind of the default's: a text, a whole number or any number; of an empty one's, any of
    these."""
    kinds = {type(one) for one in default} or {str, float}
    number = type(entry) in (int, float) and _is_finite(entry)
    whole = type(entry) is int or (number and float in kinds)
    return (str in kinds and isinstance(entry, str)) or (bool(kinds & {int, float}) and whole)


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
