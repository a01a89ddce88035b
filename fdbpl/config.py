"""Reading of YAML files and KEY VALUE pairs into a yacs configuration; mistakes raise one-line errors."""

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
    """Read a YAML file as {"A.B": value}, merged over the files that its key `_BASE_` names.

    `_BASE_` holds one path or a list of paths, relative to the file's folder; later files override earlier ones.

    Raises:
        UserError: a file is missing, not YAML, or its own base.
    """
    values: dict = {}
    for part in yaml_files(file):
        values.update(flatten({key: value for key, value in _load(part).items() if key != BASE}))
    return values


def yaml_files(file: str | os.PathLike) -> list[str]:
    """List the files that `read_yaml` merges, in this order; the last one is `file` itself."""
    files: list[str] = []
    _add_files(os.path.normpath(file), files, ())
    return files


def _add_files(file: str, files: list[str], readers: tuple[str, ...]) -> None:
    """Append a file's bases, then the file. `readers` are the files whose `_BASE_` leads here."""
    if file in readers:
        raise UserError(f"{file} is its own {BASE}. Remove {BASE} from one of {enumerated(readers)}")
    if file in files:
        return
    bases = _load(file).get(BASE, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{BASE} in {file} is {quoted(bases)}, but it must be a path or a list of paths")
    for base in bases:
        _add_files(os.path.normpath(os.path.join(os.path.dirname(file), base)), files, (*readers, file))
    files.append(file)


def _load(file: str) -> dict:
    path = Path(file)
    if not os.path.isfile(path):  # False also if the name is too long for the system
        others = sorted(str(other) for other in path.parent.glob("*.yaml"))
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise UserError(
            f"The configuration file {file} {what}. Its folder holds {enumerated(others) or 'no YAML file'}"
        )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance({} if content is None else content, dict):
        raise UserError(f"{file} contains a {type(content).__name__}, but it must contain KEY: VALUE pairs")
    return content or {}


class _PlainLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys and aliases.

    YAML ignores all but the last of duplicate keys, and aliases can expand to more than fits into memory.
    """

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
    """Convert ["A.B", "1", ...] to {"A.B": "1", ...}; the last of equal keys wins."""
    words = [word for word in words if word != "--"]
    for word in words[::2]:
        if word.startswith("--"):
            raise UserError(
                f"The flag {quoted(word)} is after the KEY VALUE pairs, where it would be read as a key. Put all flags "
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
            f"The KEY VALUE pairs consist of {len(words)} words ({shortened(' '.join(words))}), so one key "
            "has no value. Give each key one value"
        )
    return dict(zip(words[::2], words[1::2], strict=True))


# keys that no longer exist: their default, which is still accepted, and the reason for refusing other values
REMOVED_KEYS = {
    "DATASET.ALLOW_PICKLE": (False, "pickled few-shot lists of CoOp are no longer read; equal seeds draw equal shots"),
}


def current_key(key: str) -> str:
    """Return the present name of a dotted key; keys that were never renamed are returned unchanged."""
    return RENAMED_KEYS.get(key, key)


def rename_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a recorded run, {"A.B": value}, to their present names, and drop removed keys."""
    return {current_key(key): value for key, value in values.items() if key not in REMOVED_KEYS}


@cache
def warn_renamed(key: str, source: str) -> None:
    """Print, once for each file or command line, the new name of a renamed key."""
    print(f"warning: {key} in {source} is now called {RENAMED_KEYS[key]}; the old name still works", file=sys.stderr)


def merge(cfg: CfgNode, values: dict, source: str) -> None:
    """Set dotted keys of `cfg`; an int is accepted for a float, a list for a tuple, true/false for a bool.

    Renamed keys are accepted with a warning, and removed keys with their default.

    Raises:
        UserError: an unknown or removed key, or a value of another type.
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
    """Find the section and the name of a dotted key.

    Raises:
        UserError: there is no such key, or it is a section.
    """
    *path, name = key.split(".")
    node = cfg
    for part in path:
        node = node.get(part) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node or isinstance(node[name], CfgNode):
        known = known_keys(cfg)
        same = [other for other in known if other.casefold() == key.casefold()]
        close = same or difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else "see configs/ for the existing keys"
        raise UserError(f"{quoted(key)} in {source} is not a configuration key; {hint}")
    return node, name


PER_DATASET = "PER_DATASET."


def split_per_dataset(values: dict, source: str = "the configuration") -> tuple[dict, dict[str, dict]]:
    """Separate the PER_DATASET section, {condition: flat values}, from the other values of a file.

    Conditions are NAME (a data set), /SHOTS (a number of shots) or NAME/SHOTS.

    Returns:
        The other values, and the section.

    Raises:
        UserError: a condition without keys.
    """
    general = {key: value for key, value in values.items() if not key.startswith(PER_DATASET)}
    special: dict[str, dict] = {}
    for key in values.keys() - general.keys():
        condition, _, name = key.removeprefix(PER_DATASET).partition(".")
        if not name:
            raise UserError(f"PER_DATASET.{condition} in {source} is {quoted(values[key])}, but it must contain keys")
        special.setdefault(condition, {})[name] = values[key]
    return general, special


def for_dataset(special: dict[str, dict], dataset: str, shots: int) -> dict:
    """Merge the values of the conditions that hold; /SHOTS is overridden by NAME, and both by NAME/SHOTS."""
    chosen: dict = {}
    for condition in (f"/{shots}", dataset, f"{dataset}/{shots}"):
        chosen.update(special.get(condition, {}))
    return chosen


def known_keys(cfg: CfgNode, prefix: str = "") -> list[str]:
    """List all dotted keys."""
    keys: list[str] = []
    for name, value in cfg.items():
        keys += known_keys(value, f"{prefix}{name}.") if isinstance(value, CfgNode) else [prefix + name]
    return keys


DESCRIPTIONS = {
    float: "a number", int: "a whole number", bool: "True or False", str: "a text", tuple: "a list", list: "a list",
}  # fmt: skip


def coerce(value: Any, default: Any, key: str, source: str) -> Any:
    """Convert `value` to the type of `default`.

    Raises:
        UserError: it is not of that type.
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
        f"{key} in {source} is {quoted(value)}, but it must be {DESCRIPTIONS.get(kind, kind.__name__)} (the default is "
        f"{default!r})"
    )


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an int that is too large for a float
        return False


def _fits(entry: Any, default: tuple | list) -> bool:
    """Return whether an entry has the type of the default's entries; for an empty default, a text or any number."""
    kinds = {type(other) for other in default} or {str, float}
    number = type(entry) in (int, float) and _is_finite(entry)
    whole = type(entry) is int or (number and float in kinds)
    return (str in kinds and isinstance(entry, str)) or (bool(kinds & {int, float}) and whole)


def plain(cfg: CfgNode) -> dict:
    """Convert a configuration to nested plain dicts, for JSON."""
    return {
        key: plain(value) if isinstance(value, CfgNode) else list(value) if isinstance(value, tuple) else value
        for key, value in cfg.items()
    }


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """Convert {"A": {"B": 1}} to {"A.B": 1}; tuples become lists, as in JSON."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + str(key)] = list(value) if isinstance(value, tuple) else value
    return flat
