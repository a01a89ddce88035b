"""Files that are there whole or not at all: temporary name, fsync, os.replace.

The temporary file is locked by who writes it. What a killed process leaves is not, and the next writer of that file
takes it over.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import UnionType
from typing import IO, TYPE_CHECKING, Any

from fdbpl.errors import REMEDIES, SystemFailure, UserError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY_SUFFIX = ".partial"  # what an interrupted write leaves behind; safe to delete


@contextmanager
def atomic_open(path: str | os.PathLike, errors: str | None = None) -> Iterator[IO]:
    """A file to write to piece by piece, which appears at `path` when the block has ended without an error.

    Who wants to write the same file meanwhile waits.

    Args:
        errors: None for bytes; else text in UTF-8, and what becomes of a character that has no place there.

    Raises:
        SystemFailure: the file cannot be written; nothing is left half-written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = _temporary_file(path)
        text = {} if errors is None else {"encoding": "utf-8", "newline": "", "errors": errors}
        with os.fdopen(descriptor, "w" if text else "wb", **text) as file:
            try:
                yield file
                file.flush()
                os.fsync(descriptor)
                os.replace(temporary, path)
            except BaseException:
                if _is(temporary, descriptor):
                    os.unlink(temporary)
                raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        raise SystemFailure(f"cannot write {path} ({error.strerror}); {remedy}") from error


def _temporary_file(path: Path) -> tuple[int, str]:
    """An empty file beside `path`, open and locked: descriptor and name."""
    name = str(path.with_name(f".{path.name}{TEMPORARY_SUFFIX}"))
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: a name of its own for each
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(name)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
            os.fchmod(descriptor, 0o666 & ~_umask())
            return descriptor, name
        except BaseException:
            os.close(descriptor)
            raise
        if _is(name, descriptor):  # else who held it has put it in its place
            os.ftruncate(descriptor, 0)
            return descriptor, name
        os.close(descriptor)


def _is(name: str | os.PathLike, descriptor: int) -> bool:
    """Whether `name` still leads to the open file."""
    try:
        return os.path.samestat(os.stat(name), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def clean_partial_files(folder: str | os.PathLike) -> None:
    """Delete what killed writers left in `folder` and below; files that somebody writes just now stay."""
    for name in Path(folder).rglob(f".*{TEMPORARY_SUFFIX}"):
        with suppress(OSError), open(name, "r+b") as file:  # it may be gone, or held
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is(name, file.fileno()):
                os.unlink(name)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` atomically, making the folder where needed; raises as `atomic_open`."""
    with atomic_open(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike, value: Any) -> None:
    """`write_bytes` for JSON, indented, floats at full precision."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_tensors(
    path: str | os.PathLike, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None
) -> None:
    """`write_bytes` for a safetensors file."""
    write_bytes(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str] | None = None) -> bytes:
    """The content of a safetensors file."""
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(contiguous, metadata=dict(metadata or {}) or None)


def read_json(path: str | os.PathLike, what: str) -> Any:
    """The JSON value in `path`; `what` names the file in the error sentence.

    Raises:
        UserError: the file is missing or not JSON.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"expected {what} at {path}, found no regular file; check the path")
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"expected {what} at {path}, found no file; check the path") from None
    except (ValueError, RecursionError, OSError) as error:  # no UTF-8, no JSON, a number or a depth beyond all bounds
        raise UserError(f"expected {what} at {path}, found a file that cannot be read ({error}); replace it") from error


def read_record(path: str | os.PathLike, what: str, remedy: str = "replace it", **kinds: type | UnionType) -> dict:
    """The JSON object in `path`, which has a value of the given kind under each of the given keys.

    Raises:
        UserError: the file is missing, not JSON, or not such an object.
    """
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise UserError(f"expected {what} at {path}, found a {type(content).__name__}; {remedy}")
    for key, kind in kinds.items():
        if not isinstance(content.get(key), kind):
            name = getattr(kind, "__name__", None) or str(kind)
            found = f"{content[key]!r:.60}" if key in content else "none"
            raise UserError(f"expected {key} ({name}) in {what} at {path}, found {found}; {remedy}")
    return content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
