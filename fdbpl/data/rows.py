"""Rows of split files and few-shot lists: validation, digest, duplicates."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from fdbpl.errors import UserError, quoted

Item = tuple[str, int, str]  # path relative to the image folder, label, class name: a row of CoOp's split files


def read_rows(content: Any, parts: tuple[str, ...], file: Path, remedy: str) -> dict[str, list[Item]]:
    """Validate the JSON value of a split file and return {part: rows}.

    Args:
        file: the source of `content`, and `remedy`, how to fix it: for the message.

    Raises:
        UserError: a part is missing, or a row is not [path, label, class name] with a path below the image folder.
    """
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise UserError(
            f"{file} must hold lists {', '.join(parts[:-1])} and {parts[-1]} of [path, label, class name] but holds "
            f"{_summary(content)}; {remedy}"
        )
    return {
        part: [_item(row, f"row {number} of {part} in {file}", remedy) for number, row in enumerate(content[part])]
        for part in parts
    }


def digest(*parts: list[Item] | list[str]) -> str:
    """Return the SHA-256 (hex) of rows or class names in their order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_unique(rows: dict[str, list[Item]], file: Path, remedy: str) -> None:
    """Check that no image is listed twice: it would count twice, or be used for both training and testing.

    Raises:
        UserError: names the first such image.
    """
    counts = Counter(row[0] for part in rows.values() for row in part)
    repeated = [path for path, count in counts.items() if count > 1]
    if repeated:
        parts = [part for part, of_part in rows.items() for row in of_part if row[0] == repeated[0]]
        raise UserError(
            f"{file} lists {len(repeated)} images more than once (the first is {quoted(repeated[0])}, in "
            f"{' and '.join(parts[:3])}); {remedy}"
        )


def _item(row: Any, where: str, remedy: str) -> Item:
    if not isinstance(row, list) or [type(value) for value in row] != [str, int, str]:
        raise UserError(f"{where} is {quoted(row)}, not [path, label, class name] (str, int, str); {remedy}")
    path, label, name = row
    if not path or "\0" in path or os.path.isabs(path) or ".." in path.split("/") or not is_text(path):
        raise UserError(f"the path {quoted(path)} of {where} does not stay below the image folder; {remedy}")
    if label < 0:
        raise UserError(f"the label {quoted(label)} of {where} is negative; {remedy}")
    if not name.strip() or not is_text(name):
        raise UserError(f"the class name {quoted(name)} of {where} is empty or not valid text; {remedy}")
    return path, label, name


def is_text(word: str) -> bool:
    """Return whether a string can be encoded as UTF-8; JSON can hold lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _summary(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return ", ".join(f"{quoted(key)}: {type(value).__name__}" for key, value in list(content.items())[:5]) or "nothing"
