"""Copy of standard output to log.txt."""

import os
import sys
import time


class Logger:
    """Stream that writes to standard output and to a file. It has all attributes of the stream that it replaces."""

    def __init__(self, fpath: str | None = None):
        self.console = sys.stdout
        self.file = None
        if fpath is not None:
            os.makedirs(os.path.dirname(fpath) or ".", exist_ok=True)
            self.file = open(fpath, "w", encoding="utf-8")  # noqa: SIM115 (open as long as the process)

    def write(self, message: str) -> int:
        self.console.write(message)
        if self.file is not None:
            self.file.write(message)
            self.file.flush()  # a killed run keeps what it printed
        return len(message)

    def flush(self) -> None:
        self.console.flush()
        if self.file is not None:
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def __getattr__(self, name: str):
        return getattr(self.console, name)


def setup_logger(output: str | None = None) -> None:
    """Copy standard output to `output`/log.txt (or to `output` itself, if it ends in .txt or .log).

    An existing log is kept: the name of the new one ends in the time.
    """
    if output is None:
        return
    fpath = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
    if os.path.exists(fpath):
        fpath += time.strftime("-%Y-%m-%d-%H-%M-%S")
    sys.stdout = Logger(fpath)
