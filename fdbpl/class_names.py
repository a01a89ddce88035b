"""Class names from a command line: a list, or a file with one a line."""

import argparse
import csv
from collections import Counter
from pathlib import Path

from fdbpl.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    what = "class names in place of the run's, as a row of CSV: a name with a comma stands in quotes"
    which.add_argument("--classes", metavar="A,B,C", help=what)
    which.add_argument("--classes-file", type=Path, metavar="FILE", help="the same, a name a line")


def chosen(arguments: argparse.Namespace) -> list[str] | None:
    """The names of --classes (one row of CSV) or --classes-file (a line each, empty ones left out); None = neither.

    Raises:
        UserError: no names, a name that is empty or stands twice, or a file that cannot be read.
    """
    if arguments.classes is not None:
        names, where = read_row(arguments.classes), "--classes"
    elif arguments.classes_file is not None:
        names, where = read_lines(arguments.classes_file), str(arguments.classes_file)
    else:
        return None
    if not names or "" in names:
        raise UserError(f"expected class names in {where}, found {'an empty one' if names else 'none'}; name them")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"expected different class names in {where}, found {twice[0]!r} twice; leave one out")
    return names


def read_row(text: str) -> list[str]:
    try:
        rows = list(csv.reader([text], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise UserError(
            f"expected class names as a row of CSV in --classes, found {text!r} ({error}); write e.g. 'cat,\"a, b\"'"
        ) from error
    return [name.strip() for row in rows for name in row]


def read_lines(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(
            f"expected a file of class names at {file}, found none ({error.strerror}); check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"expected UTF-8 text in {file}, found something else ({error}); save it as UTF-8") from error
    return [line.strip() for line in lines if line.strip()]
