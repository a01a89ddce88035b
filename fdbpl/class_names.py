"""Class names: reading from a command line or a file, and comparison by their CLIP tokens."""

import argparse
import csv
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from fdbpl.errors import UserError, enumerated, quoted, shortened
from fdbpl.templates import readable_name

OTHER_ENDINGS = (".csv", ".json", ".tsv", ".yaml", ".yml")
YAML_PAIR = re.compile(r"[^\s:]+:(\s|$)")
MAX_LISTED = 30  # class names in a message


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --classes and --classes-file, which exclude each other."""
    group = parser.add_mutually_exclusive_group()
    meaning = "class names instead of the run's, as a row of CSV; put a name with a comma in quotes"
    group.add_argument("--classes", metavar="A,B,C", help=meaning)
    group.add_argument("--classes-file", type=Path, metavar="FILE", help="the same as a text file, one name per line")


def parse_classnames(arguments: argparse.Namespace) -> list[str] | None:
    """Read the names of --classes or --classes-file; None if neither was given.

    Raises:
        UserError: there are no names, a name is empty or a duplicate, or the file cannot be read.
    """
    if arguments.classes is not None:
        names, where = read_row(arguments.classes), "--classes"
    elif arguments.classes_file is not None:
        names, where = read_lines(arguments.classes_file), str(arguments.classes_file)
    else:
        return None
    if not names or "" in names:
        raise UserError(f"{where} contains {'an empty class name' if names else 'no class names'}")
    check_distinct(names, where, "leave one out")
    return names


def check_distinct(names: Sequence[str], where: str, remedy: str) -> None:
    """Refuse class names that have the same tokens, and therefore the same text features.

    Args:
        where: place of the names, for the message.
        remedy: advice at the end of the message.

    Raises:
        UserError: two names have the same tokens, or a name has more tokens than CLIP reads.
    """
    first_with: dict[tuple[int, ...], str] = {}
    for name, tokens in zip(names, clip_tokens(names), strict=True):
        first = first_with.get(tokens)
        if first is None:
            first_with[tokens] = name
            continue
        if first == name:
            raise UserError(f"The class name {quoted(name)} occurs twice in {where}; {remedy}")
        same_on_screen = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", name)
        pair = " and ".join(shortened((ascii if same_on_screen else repr)(one)) for one in (first, name))
        raise UserError(
            f"CLIP cannot tell the class names {pair} in {where} apart: its tokenizer ignores case, spacing, Unicode "
            f"composition and all text after <|endoftext|>; {remedy}"
        )


def clip_tokens(names: Sequence[str]) -> list[tuple[int, ...]]:
    """Tokenize each name as prompts contain it (`_` as a space), up to the end-of-text token."""
    from fdbpl.backbones.openai import tokenize  # imports torch

    rows = tokenize([readable_name(name) for name in names])
    return [tuple(row[: int(row.argmax())].tolist()) for row in rows]


def spelled_as(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Return {name: its spelling in `known`} of the names with the same tokens as one of `known`."""
    by_tokens = dict(zip(clip_tokens(known), known, strict=True))
    tokens = zip(names, clip_tokens(names), strict=True)
    return {name: by_tokens[key] for name, key in tokens if key in by_tokens}


def describe(names: Sequence[str], subset: str = "all", dataset: str = "") -> str:
    """Describe the class names in one line, with a note if a run has learned only half of its data set's classes.

    Args:
        subset: "all", "base" or "new"; "base" and "new" are the halves of the base-to-new protocol.
    """
    line = f"{len(names)} classes: {enumerated(names, MAX_LISTED)}"
    if subset == "all":
        return line
    return (
        f"{line}. These are only the {subset} half of the classes of {dataset}: an image of any other class gets "
        "one of these names. To learn all classes: bash scripts/train.sh DATASET."
    )


def read_row(text: str) -> list[str]:
    """Read class names from a row of CSV.

    Raises:
        UserError: the text is not CSV.
    """
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UserError(
            f"--classes {quoted(text)} is not a row of CSV ({error}); write for example 'cat,\"a, b\"'"
        ) from error
    return [name.strip() for row in rows for name in row]


def read_lines(file: Path) -> list[str]:
    """Read class names from a text file with one name per line; empty lines are skipped.

    Raises:
        UserError: the file is missing, not UTF-8, or of another format, whose syntax would become class names.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"The file of class names {file} cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a text file in UTF-8 ({error}); save it as UTF-8") from error
    names = [line.strip() for line in lines if line.strip()]
    other = _other_format(file, names)
    if other:
        raise UserError(f"{file} looks like {other}, not like a list of class names. Write one class name per line.")
    return names


def _other_format(file: Path, lines: list[str]) -> str:
    """Describe the format of a file that is not a plain list of names; return "" for a plain list."""
    ending = file.suffix.lower()
    if ending in OTHER_ENDINGS:
        return f"a {ending[1:].upper()} file"
    if not lines:
        return ""
    if lines[0][0] in "{[":
        return "JSON"
    if any("\t" in line for line in lines):
        return "a table separated by tabs"
    if any(line.startswith("#") for line in lines):
        return "a file with comments (#)"
    if all(line.startswith("- ") for line in lines) or all(YAML_PAIR.match(line) for line in lines):
        return "YAML"
    numbers = [line.split()[0].rstrip(".:,") for line in lines]
    if len(lines) > 1 and numbers in ([str(i + first) for i in range(len(lines))] for first in (0, 1)):
        return "a numbered list"
    return ""
