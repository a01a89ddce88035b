"""Locks between processes. The system releases the lock of a process that dies."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from fdbpl.errors import REMEDIES, SystemFailure

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # errors of file systems without locks


@contextmanager
def file_lock(path: Path, waiting: str = "") -> Iterator[None]:
    """Hold an exclusive lock on the file `path`, which is created with its folder.

    Where another process holds it, print `waiting` and wait. On a file system without locks the block runs unlocked.

    Raises:
        SystemFailure: the file cannot be created or locked.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if waiting:
                print(waiting, flush=True)
            lock.acquire()
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
            raise SystemFailure(f"cannot write to {path.parent} ({error.strerror}); {remedy}") from error
    try:
        yield
    finally:
        lock.release()


def try_lock(file: IO, operation: int) -> bool:
    """Call `fcntl.flock(file, operation)`; return False on a file system without locks, where nothing is locked.

    Raises:
        BlockingIOError: another process holds the lock, and `operation` includes LOCK_NB.
        SystemFailure: any other error.
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
