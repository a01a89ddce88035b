"""Locks between processes: a file that one of them holds. The system lets go of it when its holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fdbpl.errors import REMEDIES, MachineError


@contextmanager
def held(lock: Path, waiting: str = "") -> Iterator[None]:
    """Hold the file `lock`, made with its folder where it is not there; it stays.

    Who finds it held waits, and says `waiting`. A file system without locks holds nobody back.

    Raises:
        MachineError: the folder cannot be made or written to.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = open(lock, "w")  # noqa: SIM115 (held to the end)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
        raise MachineError(f"cannot write to {lock.parent} ({error.strerror}); {remedy}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
