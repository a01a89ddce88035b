"""What a bank has cost so far: `cost.json` beside its shards, from which a report tells when it has paid for itself.

A record, not content: two banks that hold the same may have taken different times.
"""

import time
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json, write_json
from fdbpl.io.locks import file_lock

FILE = "cost.json"
NOTHING = {"seconds": 0.0, "regions": 0, "student_features": 0, "runs": 0}


class Cost:
    """Adds up what is made in a bank from now on.

    Args:
        bank: its folder.
        timed: whether this process's seconds count; of several that work side by side, one's do.
    """

    def __init__(self, bank: Path, timed: bool = True):
        self.bank, self.timed, self.begun = bank, timed, False
        self.mark = time.perf_counter()

    def add(self, regions: int, student_features: int) -> None:
        """Record what was made since the last call, and the seconds that passed. An interruption loses one record."""
        if not regions and not student_features:
            return
        now = time.perf_counter()
        with file_lock(self.bank / ".cost.lock"):
            try:
                so_far = read_cost(self.bank)
            except UserError:  # nobody's labels wait for a broken record
                so_far = NOTHING
            write_json(
                self.bank / FILE,
                {
                    "seconds": so_far["seconds"] + (now - self.mark) * self.timed,
                    "regions": so_far["regions"] + regions,
                    "student_features": so_far["student_features"] + student_features,
                    "runs": so_far["runs"] + (self.timed and not self.begun),
                },
            )
        self.mark, self.begun = now, True


def read_cost(bank: Path) -> dict[str, float]:
    """seconds, regions, student_features and runs (calls that made something) so far; zeros without a record.

    Raises:
        UserError: a broken record.
    """
    file = Path(bank) / FILE
    if not file.is_file():
        return NOTHING
    stored = read_json(file, "the cost record of a region bank")
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), int | float) for key in NOTHING):
        raise UserError(f"expected numbers {', '.join(NOTHING)} in {file}, found something else; delete the file")
    return stored
