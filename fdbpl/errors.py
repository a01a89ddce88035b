"""Exceptions for expected failures, and the handler that turns them into one-line messages and exit codes."""

import atexit
import errno
import io
import os
import re
import reprlib
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from fdbpl.interruption import Terminated, end_silently_on_sigint, sigterm_interrupts

REMEDIES = {
    errno.ENOMEM: "the memory is used up: end other programs or reduce the batch size, and run the same command again",
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: choose a folder that you may use",
    errno.EPERM: "permission denied: choose a folder that you may use",
    errno.EEXIST: "a part of the path is a file, not a folder: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    errno.EISDIR: "it is a folder, not a file: move it away or choose another path",
    errno.ENAMETOOLONG: "the path is too long: choose a shorter one",
    errno.ELOOP: "a symbolic link leads back to itself: remove it or choose another path",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.EIO: "the disk or the network failed: run the same command again",
    errno.ESTALE: "the network file system lost the file: run the same command again",
}
OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "Can't allocate", "CUDA allocation failed",  # DALI
)  # fmt: skip
RESUME_HINT = "the same command continues where this one stopped"
MEMORY_HINT = "reduce the batch size, or end other programs"
OTHER_RANKS_WAIT_S = 5.0  # rank 0 reports an error that all processes meet; torchrun then ends the others
MAX_MESSAGE = 8000  # characters of an error message, however much input it quotes
MAX_QUOTE = 120  # characters of one quoted value


class UserError(Exception):
    """Invalid input: arguments, settings or files. The message says what is wrong, where, and how to fix it."""

    exit_code = 2


class SystemFailure(Exception):
    """Failure of the system: full disk, read-only folder, no network, out of memory."""

    exit_code = 1


@contextmanager
def cli_error_handler(interrupted: str = RESUME_HINT, memory: str = MEMORY_HINT) -> Iterator[None]:
    """Exit with a one-line message where the block fails in an expected way; treat SIGTERM as Ctrl-C.

    Args:
        interrupted: hint printed after Ctrl-C (exit code 130) and SIGTERM (143).
        memory: hint printed when memory runs out, on the CPU or on a GPU.
    """
    escape_unencodable_output()
    try:
        with sigterm_interrupts():
            yield
    except BaseException as error:
        exit_with_message(error, interrupted, memory)
        raise
    finally:
        atexit.unregister(end_silently_on_sigint)
        atexit.register(end_silently_on_sigint)  # registered last, so that it runs before the exit handlers of imports


def exit_with_message(error: BaseException, interrupted: str = RESUME_HINT, memory: str = MEMORY_HINT) -> None:
    """Print a one-line message for an expected failure and exit; return for a bug, whose traceback is due.

    FDBPL_DEBUG=1 asks for the traceback of every failure.

    Raises:
        SystemExit: with the exit code of the failure.
    """
    expected = isinstance(error, UserError | SystemFailure | SystemExit)
    if isinstance(error.__context__, KeyboardInterrupt) and not expected:
        error = error.__context__  # the interruption caused the failure
    if isinstance(error, BrokenPipeError):  # the reader of our output, e.g. `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Dassl's sys.stdout has no file number
        sys.exit(SystemFailure.exit_code)
    found = message_and_exit_code(error, interrupted, memory)
    if found is None or os.environ.get("FDBPL_DEBUG") == "1":
        return
    message, code = found
    main_process = os.environ.get("RANK", "0") == "0"
    if isinstance(error, KeyboardInterrupt):
        sys.unraisablehook = lambda dropped: None  # destructors of half-constructed objects may fail now
        message = f"\n{message}" if main_process else ""  # on a line of its own after the terminal's ^C
    elif not main_process:
        time.sleep(OTHER_RANKS_WAIT_S)
    if message:
        print(message, file=sys.stderr)
    sys.exit(code)


def message_and_exit_code(
    error: BaseException, interrupted: str = RESUME_HINT, memory: str = MEMORY_HINT
) -> tuple[str, int] | None:
    """Return message and exit code of an expected failure; None for a bug. Arguments as for `cli_error_handler`."""
    if isinstance(error, UserError | SystemFailure):
        return f"error: {one_line(str(error))}", error.exit_code
    if isinstance(error, OSError) and error.errno in REMEDIES:  # e.g. the log on a full disk
        where = f" on {shortened(one_line(str(error.filename)), 1000)}" if error.filename else ""
        return f"error: the system refused a file operation{where} ({error.strerror}); {REMEDIES[error.errno]}", 1
    if isinstance(error, MemoryError | RuntimeError) and out_of_memory(error):
        return f"error: out of memory: {_failed_allocation(error)}; {memory}", SystemFailure.exit_code
    if isinstance(error, Terminated):
        return f"terminated: {interrupted}", 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted: {interrupted}", 128 + signal.SIGINT
    return None


def out_of_memory(error: BaseException) -> bool:
    """Return whether `error` reports exhausted memory; on the CPU, torch raises a plain RuntimeError for it."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def _failed_allocation(error: BaseException) -> str:
    text = " ".join(str(error).split())
    size = re.search(r"(?:[Tt]ried to allocate|[Uu]nable to allocate|Can't allocate) ([\d.]+ ?\w+)", text)
    device = "a GPU" if any(word in text for word in ("CUDA", "CUBLAS", "CUDNN", "on device")) else "this machine"
    return f"{size[1] if size else 'more'} could not be allocated on {device}"


def check_utf8_arguments(words: list[str]) -> None:
    """Check that a command line is UTF-8, which logs and JSON files need.

    Raises:
        UserError: names the first other word.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"{word!a} on the command line is not UTF-8; rename the file or folder") from None


def escape_unencodable_output() -> None:
    """Print characters that the encoding of stdout or stderr lacks as backslash escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Return `text`, shortened, with unprintable characters escaped, since file names may contain terminal commands."""
    escaped = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
    return shortened(escaped, MAX_MESSAGE)


_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = MAX_QUOTE
_QUOTE.maxlevel = 2
_QUOTE.maxlist = _QUOTE.maxtuple = _QUOTE.maxdict = 4


def quoted(value: object) -> str:
    """Return the shortened `repr` of a value from the user's input, which may be large or deeply nested."""
    return shortened(_QUOTE.repr(value))


def enumerated(values: Iterable[object], count: int = 10) -> str:
    """Return the first `count` values, separated by commas and shortened, and the number of all if there are more."""
    texts = [shortened(str(value)) for value in values]
    return ", ".join(texts[:count]) + (f" ... ({len(texts)} in all)" if len(texts) > count else "")


def shortened(text: str, length: int = MAX_QUOTE) -> str:
    """Return `text`, without its middle if it is longer than `length`: the end often says how to fix an error."""
    if len(text) <= length:
        return text
    half = length // 2 - 4
    return f"{text[:half]} [...] {text[-half:]}"
