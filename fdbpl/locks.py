"""Locks between processes of one or several machines, as far as the file system has them."""

import errno
import fcntl
from typing import IO

from fdbpl.errors import MachineError

WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # what file systems without locks answer


def lock(file: IO, operation: int) -> bool:
    """`fcntl.flock(file, operation)`: True. False on a file system without locks: whoever calls goes on without.

    Raises:
        BlockingIOError: another process holds the lock, and `operation` has LOCK_NB.
        MachineError: anything else that the system answers.
    """
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in WITHOUT_LOCKS:
            return False
        raise MachineError(f"cannot lock {file.name} ({error.strerror}); check the disk or choose another") from error
    return True
