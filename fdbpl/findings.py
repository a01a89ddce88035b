"""Findings of a verification, printed one per line, and the exit code."""

from collections.abc import Iterable
from typing import NamedTuple

OK, NOTE, WRONG = "ok", "note", "WRONG"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        mark: OK, NOTE (for information) or WRONG.
        place: file or folder.
        message: the finding; for WRONG also how to fix it.
    """

    mark: str
    place: object
    message: str


def print_findings(findings: Iterable[Finding]) -> int:
    """Print each finding as it arrives; return 1 if any is WRONG, else 0."""
    code = 0
    for mark, place, message in findings:
        print(f"{mark:<5} {place}: {message}", flush=True)
        code = max(code, int(mark == WRONG))
    return code
