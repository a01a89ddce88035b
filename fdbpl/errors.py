"""The two kinds of failure a user meets, and how an entry point tells them: one sentence, exit code, no traceback."""

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

from fdbpl.interruption import Terminated, leave_without_words, sigterm_interrupts

REMEDIES = {
    errno.ENOMEM: "the memory is used up: end other programs or ask for less at a time, and run the same command again",
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "permission denied: choose a folder you may use",
    errno.EPERM: "permission denied: choose a folder you may use",
    errno.EEXIST: "a part of the path is a file, not a folder: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another folder",
    errno.EISDIR: "it is a folder, not a file: move it away or choose another path",
    errno.ENAMETOOLONG: "the path is too long: choose a shorter one",
    errno.ELOOP: "a link leads back to itself: remove it or choose another path",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.EIO: "the disk or the network fails: run the same command again",
    errno.ESTALE: "the network's file system has moved on: run the same command again",
}


PATIENCE = 5.0  # seconds between two processes of torchrun that meet the same mistake, at most


class UserError(Exception):
    """The user's input is at fault. The message says what was expected, what was found and what to do."""

    exit_code = 2


class SystemFailure(Exception):
    """The machine is at fault: disk full, read-only folder, no network, out of memory."""

    exit_code = 1


OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
    "Can't allocate", "CUDA allocation failed",  # DALI's
)  # fmt: skip


CONTINUES = "the same command continues where this one stopped"
LESS = "work on less at a time (a smaller batch size), or end what else runs here"
MAX_MESSAGE = 8000  # characters of an error message, however much input it quotes
MAX_QUOTE = 120  # characters of one value that is quoted in a message


@contextmanager
def cli_error_handler(interrupted: str = CONTINUES, memory: str = LESS) -> Iterator[None]:
    """End as `end` says where the block fails; SIGTERM is answered as Ctrl-C is."""
    print_any_text()
    try:
        with sigterm_interrupts():
            yield
    except BaseException as error:
        end(error, interrupted, memory)
        raise
    finally:
        atexit.unregister(leave_without_words)
        atexit.register(leave_without_words)  # now: it goes before what the block's imports (DALI) do at the end


def end(error: BaseException, interrupted: str = CONTINUES, memory: str = LESS) -> None:
    """Say a failure in its sentence on stderr and exit; return where it has none, and a traceback is due.

    `FDBPL_DEBUG=1` asks for the traceback of each. Of several processes (torchrun) that make the same mistake one says
    so: all but the first wait a little, and torchrun ends them before they repeat it.

    Raises:
        SystemExit: with the failure's exit code.
    """
    explained = isinstance(error, UserError | SystemFailure | SystemExit)
    if isinstance(error.__context__, KeyboardInterrupt) and not explained:
        error = error.__context__  # what failed on the way out of an interruption, as argparse does, is not the cause
    if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # upstream Dassl's sys.stdout does not know its number
        sys.exit(SystemFailure.exit_code)
    told = sentence_and_code(error, interrupted, memory)
    if told is None or os.environ.get("FDBPL_DEBUG") == "1":
        return
    sentence, code = told
    first = os.environ.get("RANK", "0") == "0"
    if isinstance(error, KeyboardInterrupt):
        sys.unraisablehook = lambda dropped: None  # what else fails now (torch's half-made loaders) does so for this
        sentence = f"\n{sentence}" if first else ""  # behind the terminal's ^C, once
    elif not first:
        time.sleep(PATIENCE)
    if sentence:
        print(sentence, file=sys.stderr)
    sys.exit(code)


def sentence_and_code(error: BaseException, interrupted: str = CONTINUES, memory: str = LESS) -> tuple[str, int] | None:
    """What a user is told of a failure, and the exit code; None where only a traceback would tell.

    Args:
        interrupted: what Ctrl-C (exit code 130) and SIGTERM (143) are answered with.
        memory: what to do where memory ran out, the processor's or a GPU's.
    """
    if isinstance(error, UserError | SystemFailure):
        return f"error: {one_line(str(error))}", error.exit_code
    if isinstance(error, OSError) and error.errno in REMEDIES:  # e.g. a log line on a full disk
        where = f" {shortened(one_line(str(error.filename)), 1000)}" if error.filename else ""
        refused = f"the system refused a file operation{where} ({error.strerror})"
        return f"error: {refused}; {REMEDIES[error.errno]}", SystemFailure.exit_code
    if isinstance(error, MemoryError | RuntimeError) and out_of_memory(error):
        found = f"expected the work to fit into memory, found {_wanted(error)}"
        return f"error: {found}; {memory}", SystemFailure.exit_code
    if isinstance(error, Terminated):
        return f"terminated: {interrupted}", 128 + signal.SIGTERM
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted: {interrupted}", 128 + signal.SIGINT
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch has kinds of its own for GPUs, and for processors a RuntimeError like any other."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def _wanted(error: BaseException) -> str:
    """The memory that could not be had, from the long messages of torch and DALI."""
    text = " ".join(str(error).split())
    size = re.search(r"(?:[Tt]ried to allocate|[Uu]nable to allocate|Can't allocate) ([\d.]+ ?\w+)", text)
    where = "a GPU" if any(word in text for word in ("CUDA", "CUBLAS", "CUDNN", "on device")) else "this machine"
    return f"no room for {size[1] if size else 'more'} on {where}"


def refuse_odd_bytes(words: list[str]) -> None:
    """Refuse names that are no UTF-8: neither a log nor a record could hold them.

    Raises:
        UserError: names the first word that has one.
    """
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise UserError(f"expected UTF-8 on the command line, found {word!a}; rename the file or folder") from None


def print_any_text() -> None:
    """Write characters that the encoding of stdout or stderr lacks as backslash escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """What a terminal cannot show, or would take for an order, becomes its escape: file names may hold anything.

    A text of more than MAX_MESSAGE characters loses its middle: the end often says how to fix the mistake.
    """
    escaped = "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode() for sign in text
    )
    return shortened(escaped, MAX_MESSAGE)


def quoted(value: object) -> str:
    """`repr` of a value from the user's input, shortened, however large or deep the value is."""
    return shortened(_QUOTE.repr(value))


_QUOTE = reprlib.Repr()
_QUOTE.maxstring = _QUOTE.maxother = MAX_QUOTE
_QUOTE.maxlevel = 2
_QUOTE.maxlist = _QUOTE.maxtuple = _QUOTE.maxdict = 4


def enumerated(values: Iterable[object], count: int = 10) -> str:
    """The first `count` values, separated by commas and each shortened, and how many there are if there are more."""
    texts = [shortened(str(value)) for value in values]
    return ", ".join(texts[:count]) + (f" ... ({len(texts)} in all)" if len(texts) > count else "")


def shortened(text: str, length: int = MAX_QUOTE) -> str:
    """`text` without its middle where it has more than `length` characters."""
    if len(text) <= length:
        return text
    half = length // 2 - 4
    return f"{text[:half]} [...] {text[-half:]}"
