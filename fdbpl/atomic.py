"""Files that are there whole or not at all: temporary name, fsync, os.replace."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fdbpl.errors import REMEDIES, MachineError, UserError

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY_SUFFIX = ".partial"  # what an interrupted write leaves behind; safe to delete


@contextmanager
def writing(path: str | os.PathLike, errors: str | None = None) -> Iterator[IO]:
    """A file to write to piece by piece, which appears at `path` when the block has ended without an error.

    Args:
        errors: None for bytes; else text in UTF-8, and what becomes of a character that has no place there.

    Raises:
        MachineError: the file cannot be written; nothing is left half-written.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX)
        text = {} if errors is None else {"encoding": "utf-8", "newline": "", "errors": errors}
        with os.fdopen(descriptor, "w" if text else "wb", **text) as file:
            os.fchmod(descriptor, 0o666 & ~_umask())
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        raise MachineError(f"cannot write {path} ({error.strerror}); {remedy}") from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write `data` to `path` atomically, making the folder where needed; raises as `writing`."""
    with writing(path) as file:
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
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, metadata=dict(metadata or {}) or None))


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
