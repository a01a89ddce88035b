"""Locks between processes: a file that one of them holds. The system lets go of it when its holder dies."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fdbpl.errors import REMEDIES, SystemFailure

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # answers of file systems that have none


@contextmanager
def file_lock(lock: Path, waiting: str = "") -> Iterator[None]:
    """Hold the file `lock`, made with its folder where it is not there; it stays.

    Who finds it held waits, and says `waiting`. A file system without locks holds nobody back.

    Raises:
        SystemFailure: the folder cannot be made or written to.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "w")  # noqa: SIM115 (held to the end)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        raise SystemFailure(f"cannot write to {lock.parent} ({error.strerror}); {remedy}") from error
    with file:
        try:
            try_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            try_lock(file, fcntl.LOCK_EX)
        yield


def try_lock(file: IO, operation: int) -> bool:
    """`fcntl.flock(file, operation)`: True. On a file system without locks False, and nobody is held back.

    Raises:
        BlockingIOError: another process holds it, and `operation` has LOCK_NB.
        SystemFailure: anything else that the system answers.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise SystemFailure(f"cannot lock {file.name} ({error.strerror}); check the disk") from error
        return False
    return True
