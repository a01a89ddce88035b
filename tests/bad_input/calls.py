"""Calls of entry points in this process, and checks of their result for bad input.

message = refused(train.main, ["--root", root, ...], names="split.json", unchanged=[root])
done = succeeds(train.main, [...])
"""

import hashlib
import io
import os
import signal
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fdbpl.errors import MAX_MESSAGE

HANG = 240  # seconds of wall-clock time
SECONDS = 30.0  # seconds of CPU time


@dataclass(frozen=True)
class CallResult:
    """Result of a call: exit code, output, errors, and seconds of CPU time."""

    code: int
    out: str
    err: str
    seconds: float


def call(main: Callable[[], object], words: Iterable[object] = ()) -> CallResult:
    """Call `main` with the command line `words` and strict UTF-8 streams.

    Exceptions other than SystemExit are printed as Python does, with exit code 1.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    before = sys.argv, sys.stdout, sys.stderr, os.getcwd(), os.environ.pop("FDBPL_DEBUG", None)
    begin, code = time.process_time(), 0
    sys.argv, sys.stdout, sys.stderr = ["program", *map(str, words)], out, err
    try:
        with alarm(HANG):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except Exception:  # a bug, printed as for a user
        traceback.print_exc(file=err)
        code = 1
    finally:
        sys.argv, sys.stdout, sys.stderr = before[:3]
        os.chdir(before[3])
        if before[4] is not None:
            os.environ["FDBPL_DEBUG"] = before[4]
    seconds = time.process_time() - begin
    out.flush()
    err.flush()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return CallResult(code, *texts, seconds)


def refused(
    main: Callable[[], object],
    words: Iterable[object],
    names: str | Iterable[str] = (),
    *,
    unchanged: Iterable[Path] = (),
    code: int = 2,
    within: float = SECONDS,
) -> str:
    """Require that the call ends with a one-line error message; return the message.

    Args:
        names: words that the message must contain.
        unchanged: folders or files whose content must stay the same.
        code: exit code; 2 for bad input, 1 for system failures.
        within: limit in seconds of CPU time.
    """
    before = {Path(place): contents(Path(place)) for place in unchanged}
    ended = call(main, words)
    assert "Traceback" not in ended.err, ended.err[-3000:]
    assert ended.code == code, f"exit code {ended.code}: {ended.err or ended.out[-1000:]}"
    lines = ended.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and errors == lines[-1:], f"not one message: {ended.err!r}"
    message = errors[0].removeprefix("error: ")
    assert len(message) <= MAX_MESSAGE
    for name in [names] if isinstance(names, str) else names:
        assert name in message, f"{name!r} is not named: {message}"
    assert ended.seconds < within, f"{ended.seconds:.1f} s"
    for place, there in before.items():
        assert_unchanged(there, contents(place))
    return message


def succeeds(main: Callable[[], object], words: Iterable[object], unchanged: Iterable[Path] = ()) -> CallResult:
    """Require that the call exits with 0 and prints no error; return its result."""
    before = {Path(place): contents(Path(place)) for place in unchanged}
    ended = call(main, words)
    assert ended.code == 0 and "error" not in ended.err, f"{ended.err[-3000:]}\n{ended.out[-2000:]}"
    for place, there in before.items():
        assert_unchanged(there, contents(place))
    return ended


def contents(place: Path) -> dict[str, tuple]:
    """Return {path: content} of a file or of everything below a folder, without following links."""
    found = {}
    for path in [os.fspath(place), *_below(os.fspath(place))]:
        kind = os.lstat(path)
        if stat.S_ISLNK(kind.st_mode):
            what: tuple = ("link", os.readlink(path))
        elif stat.S_ISREG(kind.st_mode):
            what = ("file", kind.st_mode, kind.st_mtime_ns, _digest(path))
        else:
            what = ("other", kind.st_mode)
        found[path] = what
    return found


def assert_unchanged(before: dict[str, tuple], after: dict[str, tuple]) -> None:
    """Require that everything in `before` is unchanged and that no temporary file was added."""
    changed = sorted(path for path, what in before.items() if after.get(path) != what)
    assert not changed, f"changed or gone: {changed[:5]}"
    left = sorted(path for path in after.keys() - before.keys() if path.endswith(".partial"))
    assert not left, f"temporary files are left: {left[:5]}"


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    def ring(*_) -> None:
        raise TimeoutError(f"hangs: no end within {seconds} s")

    earlier = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)


def _below(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        yield from (os.path.join(parent, name) for name in (*folders, *files))


def _digest(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except PermissionError:
        return "unreadable"
