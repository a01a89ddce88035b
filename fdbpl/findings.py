"""Results of a verification: one line each, and an exit code."""

from collections.abc import Iterable
from typing import NamedTuple

OK, NOTE, WRONG = "ok", "note", "WRONG"


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        mark: OK, NOTE (worth knowing) or WRONG.
        place: file or folder.
        sentence: what was found there; for WRONG also how to fix it.
    """

    mark: str
    place: object
    sentence: str


def tell(findings: Iterable[Finding]) -> int:
    """Print each finding as it arrives; return 1 if any is WRONG, else 0."""
    code = 0
    for mark, place, sentence in findings:
        print(f"{mark:<5} {place}: {sentence}", flush=True)
        code = max(code, int(mark == WRONG))
    return code
