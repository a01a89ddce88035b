"""Tables of text: CSV and TSV files in the encodings and with the separators that people use, and JSON lines."""

import csv
import gzip
import json
import re
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from fdbpl.errors import UserError, quoted, shortened
from fdbpl.io.image_files import is_image

SEPARATORS = ",;\t|"
SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)", " ": "spaces"}
TABLE_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
EXCEL = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # first bytes of .xlsx and .xls
MAX_TEXT = 2**30  # bytes of a decompressed table


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        columns: names of the columns in lower case; "" for a column without a name.
        rows: {line number: fields}.
        header: the names are those of the file; otherwise they are "column 1", "column 2" ...
        classes: {column: class names in label order}, from the metadata of a Parquet file.
        guesses: decisions made while reading, for the user.
        unit: name of a row in messages.
    """

    file: Path
    columns: list[str]
    rows: dict[int, list[str]]
    header: bool = True
    classes: dict[str, list[str]] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)
    unit: str = "line"

    def column(self, number: int) -> dict[int, str]:
        """Return {line number: field} of one column; a field that a row lacks is empty."""
        return {line: row[number] if number < len(row) else "" for line, row in self.rows.items()}

    def values(self, number: int, count: int = 200) -> list[str]:
        """Return the first non-empty fields of a column."""
        fields = (row[number] for row in list(self.rows.values())[:count] if number < len(row))
        return [text for text in fields if text]


def read_csv(file: Path, delimiter: str = "") -> Table:
    """Read a CSV or TSV file; empty lines and comments (#) at its start are left out.

    Args:
        delimiter: separator; "" = the one of commas, semicolons, tabs and bars that is most frequent in the first line.

    Raises:
        UserError: the file cannot be read as such, or a row has more fields than the first line.
    """
    guesses: list[str] = []
    text = _decode(file, guesses)
    text = re.sub(r"\A(?:[ \t]*(?:#[^,;\t|\n]*)?\n)+", lambda lead: "\n" * lead[0].count("\n"), text)
    separator = delimiter or max(SEPARATORS, key=text.lstrip("\n").partition("\n")[0].count)
    try:
        reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
        numbered = [(reader.line_num, [one.strip() for one in row]) for row in reader]
    except csv.Error as error:
        raise UserError(f"{file} is not a valid CSV ({error}); correct the line") from error
    rows = {line: row for line, row in numbered if any(row)}
    if not delimiter and separator not in ",\t":
        guesses.append(f"columns are separated by {SEPARATOR_NAMES[separator]}")
    first = rows[min(rows)] if rows else []
    header = not any(_is_image_path(one) for one in first)
    if header:
        columns = [name.lower() for name in rows.pop(min(rows))] if rows else []
        while columns and not columns[-1]:  # a separator at the end of the first line
            columns.pop()
    else:
        columns = [f"column {number}" for number in range(1, max(map(len, rows.values())) + 1)]
        guesses.append("the file has no header: its first line is an image")
    for line, row in rows.items():
        if any(row[len(columns) :]):  # empty ones, of separators at the ends of lines, do no harm
            raise UserError(
                f"line {line} of {file} has {len(row)} fields, the first line {len(columns)} columns; put a field that "
                f"contains {separator!r} in double quotes"
            )
    return Table(file, columns, rows, header, guesses=guesses)


def text_lines(file: Path) -> list[str]:
    """Return the lines of a text file; raises as `read_csv`."""
    return _decode(file, []).splitlines()


def read_json_lines(file: Path) -> Table:
    """Read a file with one JSON object per line.

    Raises:
        UserError: a line is not a JSON object.
    """
    objects: dict[int, dict] = {}
    for number, line in enumerate(text_lines(file), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"line {number} of {file} is not JSON ({error}); correct it") from error
            if not isinstance(value, dict):
                raise UserError(f"line {number} of {file} is {quoted(value)}, not a JSON object; correct it")
            objects[number] = value
    return table_of_objects(file, list(dict.fromkeys(key for value in objects.values() for key in value)), objects)


def table_of_objects(file: Path, keys: list[str], objects: dict[int, dict], unit: str = "line") -> Table:
    """Return a table whose columns are `keys` of the objects; values other than texts are written as JSON."""
    rows = {number: [_text(value.get(key)) for key in keys] for number, value in objects.items()}
    return Table(file, [key.lower() for key in keys], rows, unit=unit)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _decode(file: Path, guesses: list[str]) -> str:
    """Return the text of a file in UTF-8 or UTF-16, with or without a byte order mark, decompressed if it is gzip."""
    try:
        if not file.is_file():
            raise UserError(f"{file} is no regular file; check the path")
        data = file.read_bytes()
        if data.startswith(EXCEL):
            raise UserError(f"{file} is an Excel or zip file, not a text file; save it as CSV")
        if data[:2] == b"\x1f\x8b":
            with gzip.open(file) as stream:
                data = stream.read(MAX_TEXT + 1)
            if len(data) > MAX_TEXT:
                raise UserError(f"{file} has more than 1 GB of text; split it")
            guesses.append("compressed by gzip")
        encoding = "utf-8-sig"
        sample = data[:200]
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            encoding = "utf-16"
        elif len(data) % 2 == 0 and len(sample) > 3 and not any(sample[1::2]):
            encoding = "utf-16-le"
        if encoding != "utf-8-sig":
            guesses.append("encoded in UTF-16")
        text = data.decode(encoding)
    except (OSError, EOFError, ValueError) as error:
        raise UserError(f"{file} is not text in UTF-8 or UTF-16 ({shortened(str(error))}); save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{file} is not a text file: it contains zero bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_image_path(text: str) -> bool:
    return is_image(text.replace("\\", "/"))
