"""Read images from a CSV with the columns path, class and optionally split."""

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from fdbpl.data.custom.scan import LabelledImage, ScanResult, relative_path
from fdbpl.data.custom.split_names import split_of
from fdbpl.errors import UserError, enumerated, quoted, shortened

SPLIT_COLUMNS = ("split", "splits", "set", "subset", "part", "partition", "phase", "usage")
SPLIT_NUMBERS = {"0": "train", "1": "val", "2": "test"}


@dataclass(frozen=True)
class Table:
    """A CSV.

    Attributes:
        columns: names in the first line, in lower case; "" for a column without a name.
        rows: {line number: fields}.
    """

    file: Path
    separator: str
    columns: list[str]
    rows: dict[int, list[str]]

    def column(self, number: int) -> dict[int, str]:
        """{line number: field} of one column; a field that a row lacks is empty."""
        return {line: row[number] if number < len(row) else "" for line, row in self.rows.items()}

    def check_surplus(self) -> None:
        """Refuse fields that belong to no column; empty ones, of commas at the ends of lines, do no harm."""
        for line, row in self.rows.items():
            if any(row[len(self.columns) :]):
                raise UserError(
                    f"line {line} of {self.file} has {len(row)} fields, the first line {len(self.columns)} columns; "
                    f"put a field that contains {self.separator!r} in double quotes"
                )


def read_csv(file: Path) -> ScanResult:
    """Images of a CSV; paths start from the CSV's folder.

    Raises:
        UserError: the file is no such CSV, a field in it is missing or ambiguous, or an image is missing.
    """
    table = read_table(file)
    path_column, class_column = (_required(table, name) for name in ("path", "class"))
    table.check_surplus()
    found = ScanResult(file.parent)
    splits, found.source = _splits(table, {path_column, class_column})
    labels = table.column(class_column)
    line_of: dict[str, int] = {}
    for line, path in table.column(path_column).items():
        label = labels[line]
        if not path or not label:
            raise UserError(f"line {line} of {file} has no {'class' if path else 'path'}; complete or delete it")
        path = relative_path(file.parent, Path(os.path.normpath(file.parent / path)))
        if path in line_of:
            raise UserError(f"{file} lists {quoted(path)} in line {line_of[path]} and again in line {line}; delete one")
        line_of[path] = line
        found.images.append(LabelledImage(path, label, splits.get(line, "")))
    with ThreadPoolExecutor(16) as pool:
        exists = pool.map(lambda path: os.path.isfile(file.parent / path), line_of)
        missing = [path for path, is_file in zip(line_of, exists, strict=True) if not is_file]
    if missing and "\\" in missing[0]:
        slashes = missing[0].replace("\\", "/")
        raise UserError(
            f"{file} has paths with backslashes ({shortened(missing[0])}); write them with /, as {shortened(slashes)}"
        )
    if missing:
        raise UserError(
            f"images of {file} are missing: {len(missing)} of {len(line_of)} ({enumerated(missing, 3)}); paths start "
            "from the CSV's folder"
        )
    return found


def read_table(file: Path) -> Table:
    """The columns and rows of a CSV in UTF-8, separated by commas, semicolons or tabs; empty lines are left out.

    Raises:
        UserError: the file cannot be read as such.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise csv.Error("a zero byte")  # which csv itself reports up to Python 3.10
        header = text.lstrip().partition("\n")[0]
        separator = max(",;\t", key=header.count)
        reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
        numbered = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{file} is not a CSV in UTF-8 ({error}); save it as one") from error
    lines = {line: row for line, row in numbered if any(row)}
    columns = [name.lower() for name in lines.pop(min(lines))] if lines else []
    while columns and not columns[-1]:  # a comma at the end of the first line
        columns.pop()
    return Table(file, separator, columns, lines)


def _required(table: Table, name: str) -> int:
    if table.columns.count(name) > 1:
        raise UserError(f"{table.file} has {table.columns.count(name)} columns {name!r}; keep one of them")
    if name not in table.columns:
        columns = enumerated(map(quoted, table.columns), 5) or "none"
        raise UserError(
            f"{table.file} has no column {name!r} (columns in its first line: {columns}); name the columns path, class "
            "and optionally split there"
        )
    return table.columns.index(name)


def _splits(table: Table, others: set[int]) -> tuple[dict[int, str], str]:
    """{line number: split} and where it is from; nothing where the CSV gives no split.

    A column gives the split by its name, or by holding nothing but names of splits.

    Raises:
        UserError: several columns do so, or a field does not name a split.
    """
    numbers = [number for number in range(len(table.columns)) if number not in others]
    flags = [table.columns[number] for number in numbers if split_of(table.columns[number].removeprefix("is"))]
    if flags:
        raise UserError(
            f"{table.file} has a column {flags[0]!r}, which seems to give the split; replace it by a column split with "
            "train, val or test in every row, or give it another name"
        )
    columns = [
        number
        for number in numbers
        if table.columns[number] in SPLIT_COLUMNS or (table.rows and all(map(split_of, table.column(number).values())))
    ]
    if len(columns) > 1:
        several = " and ".join(repr(table.columns[number]) for number in columns)
        raise UserError(f"the columns {several} of {table.file} both seem to give the split; keep one of them")
    if not columns or not any(table.column(columns[0]).values()):
        return {}, ""
    name, fields = table.columns[columns[0]], table.column(columns[0])
    where, otherwise = f"the column {name!r} of {table.file}", "write train, val or test"
    if name != "split":
        otherwise += f", or rename the column {name!r} if it is not about the split"
    if set(fields.values()) <= SPLIT_NUMBERS.keys():
        if not {"0", "2"} <= set(fields.values()):
            raise UserError(
                f"{where} holds numbers, which are read as 0 for train, 1 for val and 2 for test, but not both 0 and "
                f"2; {otherwise}"
            )
        return {line: SPLIT_NUMBERS[field] for line, field in fields.items()}, f"column {name}: 0 train, 1 val, 2 test"
    for line, field in fields.items():
        if not split_of(field):
            raise UserError(f"{where} holds {quoted(field) if field else 'nothing'} in line {line}; {otherwise}")
    return {line: split_of(field) for line, field in fields.items()}, f"column {name}"
