"""CoOp's pickled few-shot lists, read as data: none of the file's code runs, and a small file stays small."""

import pickle
import pickletools
from io import BytesIO
from pathlib import Path

from fdbpl.data.rows import Item
from fdbpl.errors import UserError, quoted

# what lists and dicts of Datums are made of; a tuple within tuples, as a key, would be hashed for ever
OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "NONE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "SETITEM", "SETITEMS"),
    *("APPEND", "APPENDS", "GLOBAL", "STACK_GLOBAL", "NEWOBJ", "BUILD", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET"),
    *("LONG_BINGET", "BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINUNICODE", "BINUNICODE"),
}


def read_pickled(file: Path, train: list[Item], val: list[Item]) -> dict[str, list[Item]]:
    """The split's rows that the list's absolute paths stand for: they are matched by the end of the path.

    Raises:
        UserError: it is no such list, asks for code, or names images that the split has not.
    """
    try:
        data = file.read_bytes()
        _refuse_odd_pickle(data)
        content = _ListReader(BytesIO(data)).load()
        return {
            part: _rows(content[part] if whole else [], whole)  # ImageNet's has no val
            for part, whole in (("train", train), ("val", val))
        }
    except Exception as error:  # a broken pickle fails in whatever it stumbles over
        raise UserError(
            f"expected a few-shot list of CoOp in {file}, found something else "
            f"({type(error).__name__}: {quoted(str(error))}); delete it"
        ) from error


def _refuse_odd_pickle(data: bytes) -> None:
    for opcode, value, _ in pickletools.genops(data):
        if opcode.name not in OPCODES:
            raise pickle.UnpicklingError(f"the file holds {opcode.name}")
        if opcode.name == "LONG_BINPUT" and (value or 0) > len(data):
            raise pickle.UnpicklingError("the file asks for more memory than it can need")


def _rows(data: list["_PlainDatum"], whole: list[Item]) -> list[Item]:
    """The rows of `whole` that items with absolute paths stand for: the longest end of a path that is a row's."""
    known = {row[0]: row for row in whole}
    rows = []
    for datum in data:
        path = datum.__dict__["_impath"].replace("\\", "/")
        parts = path.split("/")
        ends = ("/".join(parts[first:]) for first in range(1, len(parts)))
        row = next((known[end] for end in ends if end in known), None)
        if row is None:
            raise ValueError(f"{path} is not in the split")
        rows.append(row)
    return rows


class _PlainDatum:
    """What a pickled Datum is read into: attributes, no code."""


class _ListReader(pickle.Unpickler):
    """Knows Dassl's Datum and nothing else, so that no code of the file can run."""

    def find_class(self, module: str, name: str):
        if (module, name) == ("dassl.data.datasets.base_dataset", "Datum"):
            return _PlainDatum
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")
