"""Recognition of the columns of a table: image path, and class or one column per class."""

import re
from dataclasses import dataclass

from fdbpl.data.custom.column_names import CLASS_NAMES, PATH_NAMES, given_column
from fdbpl.data.custom.description import Description
from fdbpl.data.custom.split_column import read_split_column
from fdbpl.data.custom.text_table import Table
from fdbpl.errors import UserError, enumerated, quoted
from fdbpl.io.image_files import is_image

INDEX_NAMES = ("", "index", "unnamed: 0")
FLAGS = {"0", "1", "0.0", "1.0", "true", "false", ""}
SET_FLAGS = {"1", "1.0", "true"}


@dataclass(frozen=True)
class TableContent:
    """Contents of the recognised columns, by line.

    Attributes:
        names: class names in label order, where the table defines it.
        split_source: of the splits; "" if there are none.
        guesses: decisions that dataset.yaml can change.
    """

    paths: dict[int, str]
    labels: dict[int, str]
    splits: dict[int, str]
    names: list[str]
    split_source: str
    guesses: list[str]


def read_columns(table: Table, description: Description) -> TableContent:
    """Recognise the columns by dataset.yaml, by their names and by their contents.

    Raises:
        UserError: a column is missing or ambiguous, a field is empty, or an image has several classes.
    """
    repeated = [name for name in dict.fromkeys(table.columns) if name and table.columns.count(name) > 1]
    if repeated:
        raise UserError(
            f"{table.file} has {table.columns.count(repeated[0])} columns {repeated[0]!r}; keep one of them"
        )
    path = path_column(table, description)
    split = read_split_column(table, path, description)
    labels, names, label_note = _labels(table, path, split.number, description)
    paths = table.column(path)
    for line, text in paths.items():
        if not text or not labels[line]:
            raise UserError(
                f"{table.unit} {line} of {table.file} has no {'class' if text else 'path'}; complete or delete it"
            )
    check_single_label(labels, table)
    note = f"{table.columns[path]!r} is the image path, {label_note}"
    guesses = [note] if note != "'path' is the image path, 'class' is the class" else []
    return TableContent(paths, labels, split.parts, names, split.source, guesses)


def path_column(table: Table, description: Description) -> int:
    """Return the number of the column with the image paths: by its name, else by its contents."""
    given = given_column(table, description, "path")
    if given is not None:
        return given
    if "path" in table.columns:
        return table.columns.index("path")
    numbers = range(len(table.columns))
    holding = [number for number in numbers if _mostly_images(table.values(number))]
    for name in PATH_NAMES:
        for number in holding or numbers:
            if table.columns[number] == name and (holding or len(table.columns) > 1):
                return number
    if holding:
        return holding[0]
    raise _no_column(table, "path", "image paths", description)


def class_column(table: Table, path: int, split: int | None, description: Description) -> int | None:
    """Return the number of the column with the classes; None if no column stands out."""
    given = given_column(table, description, "class")
    if given is not None:
        return given
    for name in (*table.classes, *CLASS_NAMES):
        if name in table.columns and table.columns.index(name) not in (path, split):
            return table.columns.index(name)
    others = _other_columns(table, path, split)
    if not table.header and others:  # further columns often hold coarser classes
        return others[0]
    return others[0] if len(others) == 1 else None


def check_single_label(labels: dict[int, str], table: Table) -> None:
    """Check that no image has several classes, e.g. cat|dog or ['cat', 'dog'].

    Raises:
        UserError: names the first such image.
    """
    known = set(labels.values())
    pieces = {label: re.split(r"\s*[|;,]\s*", label) for label in known if re.search("[|;,]", label)}
    for line, label in labels.items():
        several = label in pieces and len(pieces[label]) > 1 and all(piece in known for piece in pieces[label])
        if several or (label.startswith("[") and label.endswith("]")):
            raise UserError(
                f"{table.file} gives several classes to an image ({table.unit} {line}: {quoted(label)}). Multi-label "
                "data are not supported: give each image one class"
            )


def _labels(
    table: Table, path: int, split: int | None, description: Description
) -> tuple[dict[int, str], list[str], str]:
    """Return the labels by line, class names in label order (if the table defines it), and a note on their source."""
    number = class_column(table, path, split, description)
    if number is None:
        flags = [other for other in _other_columns(table, path, split) if _is_flag(table, other)]
        if len(flags) < 2 or not table.header:
            raise _no_column(table, "class", "classes", description)
        labels = _one_hot(table, flags)
        return labels, [table.columns[flag] for flag in flags], f"{len(flags)} columns of 0 and 1 are the classes"
    name = table.columns[number]
    labels = table.column(number)
    note = f"{name!r} is the class"
    if name in table.classes:
        names = table.classes[name]
        return {line: _class_of(names, text, table, line) for line, text in labels.items()}, names, note
    if labels and all(re.fullmatch(r"\d+\.0", label) for label in labels.values()):
        labels = {line: label[:-2] for line, label in labels.items()}
        note += ", without .0"
    return labels, [], note


def _class_of(names: list[str], text: str, table: Table, line: int) -> str:
    if text.isdecimal() and int(text) < len(names):
        return names[int(text)]
    if text in names:
        return text
    raise UserError(
        f"{table.unit} {line} of {table.file} has no label (found {quoted(text)}); remove the row, or images without "
        "labels"
    )


def _one_hot(table: Table, flags: list[int]) -> dict[int, str]:
    labels = {}
    for line, row in table.rows.items():
        chosen = [table.columns[flag] for flag in flags if flag < len(row) and row[flag].lower() in SET_FLAGS]
        if len(chosen) != 1:
            found = f"several classes ({enumerated(chosen, 3)})" if chosen else "no class"
            raise UserError(
                f"{table.unit} {line} of {table.file} has {found} among the columns of 0 and 1. Multi-label data are "
                "not supported: give each image one class, or name the column with the classes under columns in "
                "dataset.yaml"
            )
        labels[line] = chosen[0]
    return labels


def _other_columns(table: Table, path: int, split: int | None) -> list[int]:
    return [
        number
        for number, name in enumerate(table.columns)
        if number not in (path, split) and name not in INDEX_NAMES and any(table.values(number))
    ]


def _is_flag(table: Table, number: int) -> bool:
    return all(text.lower() in FLAGS for text in table.column(number).values())


def _mostly_images(values: list[str]) -> bool:
    images = sum(is_image(value.replace("\\", "/")) for value in values)
    return images > 0 and images >= 0.8 * len(values)


def _no_column(table: Table, name: str, content: str, description: Description) -> UserError:
    columns = enumerated(map(quoted, table.columns), 5) or "none"
    return UserError(
        f"no column of {table.file} could be recognised as the {content} (columns: {columns}). Name the columns path, "
        f"class and optionally split, or write in {description.file}: columns: {{{name}: NAME}}"
    )
