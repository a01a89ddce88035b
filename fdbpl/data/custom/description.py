"""Read dataset.yaml: template, class names and their order, split."""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fdbpl.data.custom.split import PARTS
from fdbpl.errors import UserError, quoted

FILE_NAMES = ("dataset.yaml", "dataset.yml")
KEYS = ("template", "classes", "split")


@dataclass(frozen=True)
class Description:
    """Content of dataset.yaml; empty fields are not given.

    Attributes:
        file: its path, also if it does not exist.
        template: prompt with {} for the class name.
        classes: {folder or label: class name}, in the order of the labels; "" for the default name.
        shares: fractions of train, val and test.
        listed: {part: paths or patterns}.
    """

    file: Path
    template: str = ""
    classes: dict[str, str] = field(default_factory=dict)
    shares: tuple[float, ...] = ()
    listed: dict[str, list[str]] = field(default_factory=dict)


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
        found = " ".join(str(error).split())[:300]
        raise UserError(f"{file} is not valid YAML ({found}); correct the file") from error
    if not isinstance(content or {}, dict):
        raise UserError(f"{file} holds {quoted(content)} instead of the keys {', '.join(KEYS)}; correct the file")
    content = {key: value for key, value in (content or {}).items() if value != ""}
    for key in content:
        check_known(key, KEYS, f"keys {', '.join(KEYS)}", file)
    return Description(
        file,
        _template(content.get("template", ""), file),
        _classes(content.get("classes", {}), file),
        **_split(content.get("split", {}), file),
    )


def check_known(word: str, known: tuple[str, ...] | list[str], kind: str, file: Path) -> None:
    """Raise a UserError that names the closest of `known` unless `word` is one of them."""
    if word not in known:
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
        remedy = f"did you mean {close[0]!r}?" if close else "remove it"
        raise UserError(f"{quoted(word)} in {file} is not one of the {kind}; {remedy}")


def _template(value: Any, file: Path) -> str:
    if value == "":
        return ""
    if not isinstance(value, str) or value.count("{}") != 1 or set("{}") & set(value.replace("{}", "")):
        raise UserError(
            f"The template {quoted(value)} in {file} must have one {{}}, for the class name; "
            'write e.g. template: "a photo of a {}."'
        )
    return " ".join(value.split())


def _classes(value: Any, file: Path) -> dict[str, str]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = dict.fromkeys(value, "")
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise UserError(
            f"classes in {file} is {quoted(value)}, but it must be a list of folders or folder: class name pairs; "
            "write e.g. classes: {n01440764: tench}"
        )
    return value


def _split(value: Any, file: Path) -> dict:
    example = "write e.g. split: {train: 0.5, val: 0.2, test: 0.3}, or lists of paths"
    if not isinstance(value, dict):
        raise UserError(f"split in {file} is {quoted(value)}, but it must name {', '.join(PARTS)}; {example}")
    for part in value:
        check_known(part, PARTS, f"parts {', '.join(PARTS)} of split", file)
    if not value:
        return {}
    if all(isinstance(paths, list) and all(isinstance(path, str) for path in paths) for paths in value.values()):
        return {"listed": value}
    try:
        shares = tuple(float(value.get(part, 0)) for part in PARTS)
    except (TypeError, ValueError):
        raise UserError(f"split in {file} is {quoted(value)}, but it must be three shares; {example}") from None
    if not (shares[0] > 0 and shares[1] >= 0 and shares[2] > 0 and abs(sum(shares) - 1) < 1e-6):
        raise UserError(
            f"The shares of split in {file} are {quoted(value)}, but they must add up to 1, and only val may be 0; "
            f"{example}"
        )
    return {"shares": shares}
