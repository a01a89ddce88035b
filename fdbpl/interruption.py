"""Signals and child processes: SIGTERM raises an exception as Ctrl-C does, and children end with their parent.

python -m fdbpl.interruption COMMAND ...       # executes COMMAND, which gets SIGTERM when its parent dies
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

RESEND_AFTER_S = 0.05
PR_SET_PDEATHSIG = 1  # option of Linux's prctl


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM (from `kill`, Slurm or a grid) inside the block.

    Python drops exceptions raised in destructors and fork hooks; a signal that was dropped there is sent again.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread handles signals
        yield
        return
    handler, hook = signal.signal(signal.SIGTERM, _raise_terminated), sys.unraisablehook

    def resend(dropped) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            hook(dropped)
            return
        number = signal.SIGTERM if isinstance(dropped.exc_value, Terminated) else signal.SIGINT
        timer = threading.Timer(RESEND_AFTER_S, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    sys.unraisablehook = resend
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        sys.unraisablehook = hook


def _raise_terminated(number: int, frame: object) -> None:
    if signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, signal.SIG_IGN, None):
        signal.signal(signal.SIGCHLD, lambda *_: None)  # torch's handler would report that data loaders end as well
    raise Terminated


def end_silently_on_sigint() -> None:
    """Make Ctrl-C end the process at once from here on, since a traceback during Python's shutdown is useless."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_with_parent() -> None:
    """Send SIGTERM to this process when the thread that started it ends. Works on Linux; does nothing elsewhere."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # the parent died before the call
        os.kill(os.getpid(), signal.SIGTERM)


def init_pool_worker() -> None:
    """Initialise a worker of a process pool: its parent handles Ctrl-C, and the worker ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


if __name__ == "__main__":
    end_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
