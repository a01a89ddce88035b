"""Cost record of a region bank: `cost.json` next to its shards, from which the report computes the break-even point.

The record is not a part of the bank's content: generating the same content may take different times.
"""

import time
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json, write_json
from fdbpl.io.locks import file_lock

FILE = "cost.json"
NOTHING = {"seconds": 0.0, "regions": 0, "student_features": 0, "runs": 0}


class CostRecorder:
    """Recorder of this process's work in the bank's cost record.

    Args:
        bank: folder of the bank.
        timed: whether this process's seconds count; exactly one of several parallel processes is timed.
    """

    def __init__(self, bank: Path, timed: bool = True):
        self.bank, self.timed, self.started = bank, timed, False
        self.last = time.perf_counter()

    def add(self, regions: int, student_features: int) -> None:
        """Record the work since the last call and its seconds."""
        if not regions and not student_features:
            return
        now = time.perf_counter()
        with file_lock(self.bank / ".cost.lock"):
            try:
                before = read_cost(self.bank)
            except UserError:  # a broken record must not stop generation
                before = NOTHING
            write_json(
                self.bank / FILE,
                {
                    "seconds": before["seconds"] + (now - self.last) * self.timed,
                    "regions": before["regions"] + regions,
                    "student_features": before["student_features"] + student_features,
                    "runs": before["runs"] + (self.timed and not self.started),
                },
            )
        self.last, self.started = now, True


def read_cost(bank: Path) -> dict[str, float]:
    """Return the totals of seconds, regions, student_features and runs (generating calls); zeros without a record.

    Raises:
        UserError: the record is broken.
    """
    file = Path(bank) / FILE
    if not file.is_file():
        return NOTHING
    stored = read_json(file, "the cost record of a region bank")
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), int | float) for key in NOTHING):
        raise UserError(f"{file} does not hold the numbers {', '.join(NOTHING)}. Delete the file.")
    return stored
