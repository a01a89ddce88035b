"""Rows of split files and few-shot lists, as they come out of JSON: checked one by one."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from fdbpl.errors import UserError, quoted

Item = tuple[str, int, str]  # path relative to the image folder, label, class name: a row of CoOp's split files


def read_rows(content: Any, parts: tuple[str, ...], file: Path, remedy: str) -> dict[str, list[Item]]:
    """{part: rows} of a JSON value.

    Args:
        file: where it is from, and `remedy`, what to do about it: for the sentence.

    Raises:
        UserError: a part is missing, or a row is not [path, label, class name] or does not stay below the images.
    """
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise UserError(
            f"expected lists {', '.join(parts[:-1])} and {parts[-1]} of [path, label, class name] in {file}, "
            f"found {_kinds(content)}; {remedy}"
        )
    return {
        part: [_item(row, f"row {number} of {part} in {file}", remedy) for number, row in enumerate(content[part])]
        for part in parts
    }


def digest(*parts: list[Item] | list[str]) -> str:
    """SHA-256 of rows or class names, in their order: hex."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def refuse_repeated(rows: dict[str, list[Item]], file: Path, remedy: str) -> None:
    """An image that stands twice would count twice, or be trained on and tested on."""
    counts = Counter(row[0] for part in rows.values() for row in part)
    twice = [path for path, count in counts.items() if count > 1]
    if twice:
        where = [part for part, of_part in rows.items() for row in of_part if row[0] == twice[0]]
        raise UserError(
            f"expected every image once in {file}, found {len(twice)} that stand there again ({quoted(twice[0])} in "
            f"{' and '.join(where[:3])}); {remedy}"
        )


def _item(row: Any, where: str, remedy: str) -> Item:
    if not isinstance(row, list) or [type(value) for value in row] != [str, int, str]:
        raise UserError(
            f"expected [path, label, class name], a text, a whole number and a text, as {where}, found {quoted(row)}; "
            f"{remedy}"
        )
    path, label, name = row
    if not path or "\0" in path or os.path.isabs(path) or ".." in path.split("/") or not _is_text(path):
        raise UserError(f"expected paths below the folder of images, found {quoted(path)} as {where}; {remedy}")
    if label < 0:
        raise UserError(f"expected labels from 0 on, found {quoted(label)} as {where}; {remedy}")
    if not name.strip() or not _is_text(name):
        raise UserError(f"expected a class name, found {quoted(name)} as {where}; {remedy}")
    return path, label, name


def _is_text(word: str) -> bool:
    """Whether UTF-8 has all of its characters; JSON can hold halves of one."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kinds(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return ", ".join(f"{quoted(key)}: {type(value).__name__}" for key, value in list(content.items())[:5]) or "nothing"
