"""A progress bar below the log lines of a terminal; no output into a file or a pipe."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm


@contextmanager
def progress_bar(
    total: int, done: int, description: str, unit: str, quiet: bool = False
) -> Iterator[Callable[[], object]]:
    """Yield a function that advances the bar by one of `total` steps, of which `done` are finished.

    The bar is shown if standard error is a terminal and `quiet` is not set; printed lines scroll above it.
    """
    hidden = True if quiet else None  # None: shown on a terminal
    with tqdm(total=total, initial=done, desc=description, unit=unit, disable=hidden, leave=False) as bar:
        if bar.disable:
            yield bar.update
            return
        # Dassl's logger replaces standard output and passes the text to its `console`
        owner, name = (sys.stdout, "console") if hasattr(sys.stdout, "console") else (sys, "stdout")
        screen = getattr(owner, name)
        above = _AboveBar(screen)
        setattr(owner, name, above)
        try:
            yield bar.update
        finally:
            above.flush()
            setattr(owner, name, screen)


class _AboveBar:
    """A stream that writes complete lines above the bar."""

    def __init__(self, stream: TextIO):
        self.stream, self.begun = stream, ""

    def write(self, text: str) -> int:
        lines, newline, self.begun = (self.begun + text).rpartition("\n")
        if newline:
            self._above(lines + newline)
        return len(text)

    def flush(self) -> None:
        self._above(self.begun)
        self.begun = ""

    def _above(self, text: str) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            self.stream.write(text)
            self.stream.flush()

    def __getattr__(self, name: str):
        return getattr(self.stream, name)
