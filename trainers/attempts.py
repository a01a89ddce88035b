"""Seconds and steps of a training, those of its earlier attempts included."""

import math
import time
from collections import Counter
from numbers import Real
from pathlib import Path

from fdbpl.atomic import read_record, write_json

FILE = "attempts.json"
WRITTEN_EVERY = 1.0  # seconds, so that many short epochs do not wait for the disk


class Attempts:
    """The time that a training has taken so far.

    An interrupted attempt counts up to the end of its last epoch, to a second.

    Attributes:
        steps: of all attempts.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._seconds: Counter[str] = Counter()
        self._running: dict[str, float] = {}
        self._written = -math.inf

    def begin(self, stage: str) -> None:
        self._running[stage] = time.perf_counter()

    def end(self, stage: str) -> None:
        self._seconds[stage] += time.perf_counter() - self._running.pop(stage)

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage up to now."""
        now = time.perf_counter()
        return dict(self._seconds + Counter({stage: now - begin for stage, begin in self._running.items()}))

    def add_earlier(self, *folders: Path) -> None:
        """Add what earlier attempts have left in the first of some run folders that holds such a file.

        Raises:
            UserError: the file is broken.
        """
        for file in (folder / FILE for folder in folders):
            if file.is_file():
                what, kinds = "the times of a run's attempts", {"steps": int, "seconds": dict}
                earlier = read_record(file, what, "delete that file", **kinds)
                self.steps += earlier["steps"]
                times = {stage: value for stage, value in earlier["seconds"].items() if isinstance(value, Real)}
                self._seconds.update(times)
                return

    def write(self, folder: Path, last: bool = False) -> None:
        """Keep the steps and the seconds in a run folder, at most once in `WRITTEN_EVERY` seconds unless `last`."""
        if last or time.monotonic() - self._written >= WRITTEN_EVERY:
            write_json(folder / FILE, {"steps": self.steps, "seconds": self.seconds()})
            self._written = time.monotonic()
