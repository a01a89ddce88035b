"""What a check found, and how it asks without falling over what is missing or broken."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Finding(NamedTuple):
    """One line of the screen.

    Attributes:
        state: "fine", "warning" (something optional lacks) or "problem" (the demo world cannot run).
        remedy: what to do, in a sentence; "" where all is fine.
    """

    state: str
    subject: str
    found: str
    remedy: str = ""


def fine(subject: str, found: str) -> Finding:
    return Finding("fine", subject, found)


def warning(subject: str, found: str, remedy: str) -> Finding:
    return Finding("warning", subject, found, remedy)


def problem(subject: str, found: str, remedy: str) -> Finding:
    return Finding("problem", subject, found, remedy)


def safely(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """A check's findings; whatever it dies of is a finding as well. Nothing that it imports prints or warns."""
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            return list(check())
    except (Exception, SystemExit) as error:
        name = getattr(check, "__name__", "check").replace("_", " ")
        return [problem(name, f"cannot be looked at ({reason(error)})", "look into that file or package")]


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}".rstrip(": ")


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def present(module: str) -> bool:
    """Whether `import module` would find a file; nothing is run."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def imports(module: str) -> bool:
    try:
        importlib.import_module(module)
    except (Exception, SystemExit):
        return False
    return True


def sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
