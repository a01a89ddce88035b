"""What a verification found: a line a thing, and an exit code."""

from collections.abc import Iterable
from typing import NamedTuple

OK, NOTE, WRONG = "ok", "note", "WRONG"


class Finding(NamedTuple):
    """One thing that was looked at: it holds (ok), is worth knowing (note), or does not hold (WRONG).

    Attributes:
        place: file or folder. sentence: what was found there; of what does not hold also what to do.
    """

    mark: str
    place: object
    sentence: str


def tell(findings: Iterable[Finding]) -> int:
    """Print each as it is found; 0 = everything holds, 1 = not."""
    code = 0
    for mark, place, sentence in findings:
        print(f"{mark:<5} {place}: {sentence}", flush=True)
        code = max(code, int(mark == WRONG))
    return code
