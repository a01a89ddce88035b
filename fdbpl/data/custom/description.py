"""dataset.yaml: optional settings of custom data."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fdbpl.data.custom.path_pattern import check_layout
from fdbpl.data.custom.split_names import PARTS
from fdbpl.errors import UserError, quoted

FILE_NAMES = ("dataset.yaml", "dataset.yml")
COLUMNS = ("path", "class", "split")
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "space": " ", "pipe": "|"}


@dataclass(frozen=True)
class Description:
    """Content of dataset.yaml; empty fields are not given.

    Attributes:
        file: path of dataset.yaml, also if it does not exist.
        template: prompt with {} for the class name.
        classes: {folder or label: class name}, in the order of the labels; "" for the default name.
        class_file: file that holds the class names.
        strip_prefix: regular expression that is removed from the start of the default class names.
        split_shares: fractions of train, val and test.
        split_patterns: {part: paths or patterns}.
        split_values: {value of the split column: part}.
        labels: file with the labels, below the folder.
        columns: {path, class or split: name of the column, or its number from 1}.
        images: folder that the paths of the table start from.
        ending: file ending that the paths of the table lack.
        delimiter: separator of the table's columns.
        layout: pattern of the image paths with {class}; "" for one sub-folder per class.
    """

    file: Path
    template: str = ""
    classes: dict[str, str] = field(default_factory=dict)
    class_file: str = ""
    strip_prefix: str = ""
    split_shares: tuple[float, ...] = ()
    split_patterns: dict[str, list[str]] = field(default_factory=dict)
    split_values: dict[str, str] = field(default_factory=dict)
    labels: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    images: str = ""
    ending: str = ""
    delimiter: str = ""
    layout: str = ""

    @property
    def folder(self) -> Path:
        return self.file.parent


def read_description(folder: Path) -> Description:
    """Read dataset.yaml or dataset.yml in `folder`; the result is empty if there is neither.

    Raises:
        UserError: both exist, the file is not YAML, or a value is invalid.
    """
    files = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    if not files:
        return Description(folder / FILE_NAMES[0])
    if len(files) > 1:
        raise UserError(f"{folder} has both {' and '.join(FILE_NAMES)}; keep one of them")
    file = files[0]
    try:  # BaseLoader: plain strings, so that a folder called 007 or yes stays what it is called
        content = yaml.load(file.read_text(encoding="utf-8-sig"), yaml.BaseLoader)  # noqa: S506 (a safe loader)
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{file} is not valid YAML ({reason}); correct the file") from error
    if not isinstance(content or {}, dict):
        raise UserError(f"{file} holds {quoted(content)} instead of the keys {', '.join(READERS)}; correct the file")
    content = {key: value for key, value in (content or {}).items() if value != ""}
    fields: dict[str, Any] = {}
    for key, value in content.items():
        check_known(key, list(READERS), f"keys {', '.join(READERS)}", file)
        fields.update(READERS[key](value, key, file))
    return Description(file, **fields)


def check_known(word: str, known: Sequence[str], kind: str, file: Path | str) -> None:
    """Raise a UserError that names the closest of `known` unless `word` is one of them."""
    if word not in known:
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
        remedy = f"did you mean {close[0]!r}?" if close else "remove it"
        raise UserError(f"{quoted(word)} in {file} is not one of the {kind}; {remedy}")


def _template(value: Any, key: str, file: Path) -> dict:
    if not isinstance(value, str) or value.count("{}") != 1 or set("{}") & set(value.replace("{}", "")):
        raise UserError(
            f"The template {quoted(value)} in {file} must have one {{}}, for the class name; "
            'write e.g. template: "a photo of a {}."'
        )
    return {"template": " ".join(value.split())}


def _classes(value: Any, key: str, file: Path) -> dict:
    if isinstance(value, str):
        return {"class_file": _path(value, key, file)}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = dict.fromkeys(value, "")
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise UserError(
            f"classes in {file} is {quoted(value)}, but it must be a list of folders, folder: class name pairs, or a "
            "file; write e.g. classes: {n01440764: tench}"
        )
    return {"classes": value}


def _split(value: Any, key: str, file: Path) -> dict:
    example = "write e.g. split: {train: 0.5, val: 0.2, test: 0.3}, or lists of paths"
    if not isinstance(value, dict) or not value:
        raise UserError(f"split in {file} is {quoted(value)}, but it must name {', '.join(PARTS)}; {example}")
    for part in value:
        check_known(part, PARTS, f"parts {', '.join(PARTS)} of split", file)
    if all(isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in value.values()):
        return {"split_patterns": value}
    try:
        shares = tuple(float(value.get(part, 0)) for part in PARTS)
    except (TypeError, ValueError):
        raise UserError(f"split in {file} is {quoted(value)}, but it must be three shares; {example}") from None
    if not (shares[0] > 0 and shares[1] >= 0 and shares[2] > 0 and abs(sum(shares) - 1) < 1e-6):
        raise UserError(
            f"The shares of split in {file} are {quoted(value)}, but they must add up to 1, and only val may be 0; "
            f"{example}"
        )
    return {"split_shares": shares}


def _split_values(value: Any, key: str, file: Path) -> dict:
    if not isinstance(value, dict):
        raise UserError(
            f"split_values in {file} is {quoted(value)}, but it must be part: values pairs; write e.g. "
            "split_values: {train: [fold1, fold2], test: fold3}"
        )
    parts: dict[str, str] = {}
    for part, values in value.items():
        check_known(part, PARTS, f"parts {', '.join(PARTS)} of split_values", file)
        for one in values if isinstance(values, list) else [values]:
            if not isinstance(one, str) or parts.setdefault(one, part) != part:
                raise UserError(f"split_values in {file} must assign each value to one part, not {quoted(one)}")
    return {key: parts}


def _columns(value: Any, key: str, file: Path) -> dict:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise UserError(
            f"columns in {file} is {quoted(value)}, but it must be pairs; write e.g. columns: {{path: image_id, class: "
            "breed}"
        )
    for name in value:
        check_known(name, COLUMNS, f"columns {', '.join(COLUMNS)}", file)
    return {key: value}


def _text(value: Any, key: str, file: Path) -> str:
    if not isinstance(value, str):
        raise UserError(f"{key} in {file} is {quoted(value)}, but it must be a text")
    return value


def _path(value: Any, key: str, file: Path) -> str:
    path = Path(_text(value, key, file))
    if path.is_absolute() or ".." in path.parts or not (file.parent / path).exists():
        raise UserError(
            f"{quoted(value)}, which {file} gives for {key}, does not exist below {file.parent}; correct the path"
        )
    return str(path)


def _strip_prefix(value: Any, key: str, file: Path) -> dict:
    try:
        re.compile(_text(value, key, file))
    except re.error as error:
        raise UserError(
            f"strip_prefix {quoted(value)} in {file} is not a regular expression ({error}); write e.g. strip_prefix: "
            "'[0-9]+[.]'"
        ) from error
    return {key: value}


def _delimiter(value: Any, key: str, file: Path) -> dict:
    delimiter = DELIMITERS.get(_text(value, key, file), value)
    if len(delimiter) != 1:
        raise UserError(f"delimiter in {file} must be one character or one of {', '.join(DELIMITERS)}")
    return {key: delimiter}


def _layout(value: Any, key: str, file: Path) -> dict:
    layout = _text(value, key, file)
    if layout.isdecimal() and 0 < int(layout) < 100:
        layout = "/".join([*["*"] * (int(layout) - 1), "{class}", "*"])
    check_layout(layout, file)
    return {key: layout}


READERS = {
    "template": _template,
    "classes": _classes,
    "strip_prefix": _strip_prefix,
    "split": _split,
    "split_values": _split_values,
    "labels": lambda value, key, file: {key: _path(value, key, file)},
    "columns": _columns,
    "images": lambda value, key, file: {key: _path(value, key, file)},
    "ending": lambda value, key, file: {key: "." + _text(value, key, file).removeprefix(".")},
    "delimiter": _delimiter,
    "layout": _layout,
}  # key of dataset.yaml: function that checks its value and returns fields of Description
