"""How a process ends before its work does: SIGTERM like Ctrl-C, and not later than the process that started it.

python -m fdbpl.interruption COMMAND ...       # becomes COMMAND, which gets SIGTERM when its parent dies
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AGAIN = 0.05  # seconds after which an interruption that Python dropped is sent again
PR_SET_PDEATHSIG = 1  # of Linux's prctl


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """SIGTERM (of `kill`, of Slurm, of a grid) raises `Terminated` inside; neither it nor Ctrl-C goes unheard there."""
    if threading.current_thread() is not threading.main_thread():  # the only one that handles signals
        yield
        return
    handler, hook = signal.signal(signal.SIGTERM, _raise_terminated), sys.unraisablehook

    def say_again(dropped) -> None:
        """Python drops an exception that comes in a destructor or in a fork's hook: an interruption is sent again."""
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            hook(dropped)
            return
        number = signal.SIGTERM if isinstance(dropped.exc_value, Terminated) else signal.SIGINT
        again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()

    sys.unraisablehook = say_again
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
        sys.unraisablehook = hook


def _raise_terminated(number: int, frame: object) -> None:
    if signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, signal.SIG_IGN, None):
        signal.signal(signal.SIGCHLD, lambda *_: None)  # that torch's data loaders end now as well is no error
    raise Terminated


def leave_without_words() -> None:
    """From here on Ctrl-C ends the process at once: on Python's way out there is nothing to trace back."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_with_parent() -> None:
    """SIGTERM for this process when the thread that started it ends, however it ends. Linux; nothing elsewhere."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:  # it died before this was said
        os.kill(os.getpid(), signal.SIGTERM)


def helper_process() -> None:
    """What each process of a pool does first: Ctrl-C is for the one that started it to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


if __name__ == "__main__":
    end_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
