"""Who makes which file of a bank: processes that do not know of each other share the work out as they go."""

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fdbpl.errors import SystemFailure
from fdbpl.io.locks import WITHOUT_LOCKS


class Claims:
    """This process's claims to files of the bank in `bank`: one byte each of `.claims.lock`, told by the file's name.

    The system drops a dead process's claims. A file system without locks holds nobody back: then a file may be made
    twice, in the same bytes. A context manager, which drops what is still held.

    Raises:
        SystemFailure: the system answers something else than that a claim is free or taken.
    """

    def __init__(self, bank: Path):
        self._bank = bank
        self._lock = open(bank / ".claims.lock", "a")  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *mistake: object) -> None:
        self._lock.close()

    def take(self, file: Path) -> bool:
        """Claim `file`; False where another process has it."""
        try:
            self._ask(fcntl.LOCK_EX | fcntl.LOCK_NB, file)
        except (BlockingIOError, PermissionError):  # the two answers that POSIX allows
            return False
        return True

    def leave(self, file: Path) -> None:
        """Give the claim to `file` back."""
        self._ask(fcntl.LOCK_UN, file)

    @contextmanager
    def waiting(self, file: Path) -> Iterator[None]:
        """Hold `file` as soon as nobody else does. Who holds others meanwhile may wait for ever."""
        self._ask(fcntl.LOCK_EX, file)
        yield
        self.leave(file)

    def _ask(self, operation: int, file: Path) -> None:
        name = file.relative_to(self._bank).as_posix()
        try:
            fcntl.lockf(self._lock, operation, 1, int(hashlib.sha256(name.encode()).hexdigest()[:15], 16))
        except (BlockingIOError, PermissionError):
            raise
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise SystemFailure(f"cannot lock {self._lock.name} ({error.strerror}); check the disk") from error
