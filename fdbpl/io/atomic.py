"""Atomic file writes (temporary name, fsync, os.replace), and JSON files.

The writer holds a lock on its temporary file. A file that a killed process left has no lock: the next writer of the
same file reuses it, and `clean_partial_files` deletes it.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import IO, Any

from fdbpl.errors import REMEDIES, SystemFailure, UserError

TEMPORARY_SUFFIX = ".partial"  # ending of files left by an interrupted write; they can be deleted


@contextmanager
def atomic_open(path: str | os.PathLike, errors: str | None = None) -> Iterator[IO]:
    """Open a file for writing that replaces `path` when the block ends without an error.

    A second writer of the same file waits for the first.

    Args:
        errors: None for bytes; else text in UTF-8, and what to do with unencodable characters, as for `open`.

    Raises:
        SystemFailure: the file cannot be written; the old one is unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    text = {} if errors is None else {"encoding": "utf-8", "newline": "", "errors": errors}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(_open_locked(temporary), "w" if text else "wb", **text) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                if _is_same_file(temporary, file.fileno()):
                    os.unlink(temporary)
                raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        raise SystemFailure(f"cannot write {path} ({error.strerror}); {remedy}") from error


def _open_locked(temporary: Path) -> int:
    """Return the descriptor of the empty temporary file, locked."""
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_same_file(temporary, descriptor):  # otherwise the previous writer has renamed or deleted it
                os.ftruncate(descriptor, 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def clean_partial_files(folder: str | os.PathLike) -> None:
    """Delete the temporary files of killed writers in `folder` and below; those of running writers stay."""
    for path in Path(folder).rglob(f".*{TEMPORARY_SUFFIX}"):
        with suppress(OSError), open(path, "r+b") as file:  # already deleted, or locked by its writer
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(path, file.fileno()):
                os.unlink(path)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` atomically and create the folder; raises as `atomic_open`."""
    with atomic_open(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write indented JSON as `write_bytes` does."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike, what: str) -> Any:
    """Return the JSON value in `path`; `what` describes the file in error messages.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # reading a pipe would block
        raise UserError(f"{path} should be {what}, but is not a regular file; check the path")
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; it should be {what}. Check the path") from None
    except (ValueError, RecursionError, OSError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise UserError(f"{path} cannot be read as {what} ({error}); replace it") from error


def read_record(path: str | os.PathLike, what: str, remedy: str = "replace it", **kinds: type | UnionType) -> dict:
    """Return the JSON object in `path`, with a value of the given type under each of the given keys.

    Raises:
        UserError: the file is missing or is not JSON, or a key is missing or of another type.
    """
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise UserError(f"{path} should be {what}, but holds a {type(content).__name__}; {remedy}")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            name = getattr(kind, "__name__", None) or str(kind)
            found = f"{content[key]!r:.60}" if key in content else "missing"
            raise UserError(f"{key} in {path} ({what}) should be of type {name}, but is {found}; {remedy}")
    return content
