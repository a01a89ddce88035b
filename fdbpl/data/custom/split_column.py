"""Recognition of the column of a table that gives the split."""

from typing import NamedTuple

from fdbpl.data.custom.column_names import CLASS_NAMES, given_column
from fdbpl.data.custom.description import Description
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.custom.text_table import Table
from fdbpl.errors import UserError, quoted

SPLIT_NAMES = ("split", "splits", "set", "subset", "part", "partition", "phase", "usage")
SPLIT_NUMBERS = {"0": "train", "1": "val", "2": "test"}


class SplitColumn(NamedTuple):
    """The split that a table gives; empty if it gives none.

    Attributes:
        number: of the column.
        parts: {line: train, val or test}.
        source: for the user.
    """

    number: int | None = None
    parts: dict[int, str] = {}
    source: str = ""


def read_split_column(table: Table, path: int, description: Description) -> SplitColumn:
    """Find the column with the split: by dataset.yaml, by its name, or because it holds nothing but names of splits.

    Args:
        path: number of the column with the image paths.

    Raises:
        UserError: several columns seem to give the split, or a field does not name a part.
    """
    number = _column_number(table, path, description)
    if number is None or not any(table.column(number).values()):
        return SplitColumn()
    name, fields = table.columns[number], table.column(number)
    where = f"the column {name!r} of {table.file}"
    remedy = f"write train, val or test, or give its values under split_values in {description.file}"
    if name != "split":
        remedy += f", or rename the column {name!r} if it is not about the split"
    if set(fields.values()) <= SPLIT_NUMBERS.keys() and not description.split_values:
        if not {"0", "2"} <= set(fields.values()):
            raise UserError(
                f"{where} holds numbers, which are read as 0 for train, 1 for val and 2 for test, but not both 0 and "
                f"2; {remedy}"
            )
        parts = {line: SPLIT_NUMBERS[text] for line, text in fields.items()}
        return SplitColumn(number, parts, f"column {name}: 0 train, 1 val, 2 test")
    parts = {line: _part(text, description) for line, text in fields.items()}
    for line, part in parts.items():
        if not part:
            found = quoted(fields[line]) if fields[line] else "nothing"
            raise UserError(f"{where} holds {found} in {table.unit} {line}; {remedy}")
    return SplitColumn(number, parts, f"column {name}")


def _column_number(table: Table, path: int, description: Description) -> int | None:
    given = given_column(table, description, "split")
    if given is not None:
        return given
    used = (path, given_column(table, description, "class"))
    columns = {number: name for number, name in enumerate(table.columns) if number not in used and name != "class"}
    flags = [name for name in columns.values() if split_of(name.removeprefix("is"))]
    if flags and any(name in CLASS_NAMES for name in table.columns):
        raise UserError(
            f"{table.file} has a column {flags[0]!r}, which seems to give the split; replace it by a column split "
            "with train, val or test in every row, or give it another name"
        )
    found = [
        number
        for number, name in columns.items()
        if name in SPLIT_NAMES
        or (table.rows and all(_part(text, description) for text in table.column(number).values()))
    ]
    if len(found) > 1:
        several = " and ".join(repr(table.columns[number]) for number in found)
        raise UserError(
            f"the columns {several} of {table.file} both seem to give the split; keep one of them, or name it under "
            f"columns in {description.file}"
        )
    return found[0] if found else None


def _part(text: str, description: Description) -> str:
    return description.split_values.get(text) or split_of(text)
