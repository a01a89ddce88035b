"""Duration and steps of a training, including earlier attempts that were interrupted."""

import math
import time
from collections import defaultdict
from numbers import Real
from pathlib import Path

from fdbpl.io.atomic import read_record, write_json

FILE = "attempts.json"


class TrainingTimer:
    """Seconds of each stage of a training and its number of steps.

    An interrupted attempt counts up to its last checkpoint, or to the end of its last epoch within about a second.

    Attributes:
        steps: of all attempts.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._running: dict[str, float] = {}
        self._written = -math.inf

    def start(self, stage: str) -> None:
        self._running[stage] = time.perf_counter()

    def stop(self, stage: str) -> None:
        self._seconds[stage] += time.perf_counter() - self._running.pop(stage)

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each stage so far."""
        now, seconds = time.perf_counter(), self._seconds.copy()
        for stage, begin in self._running.items():
            seconds[stage] += now - begin
        return dict(seconds)

    def add_earlier(self, *folders: Path) -> None:
        """Add the earlier attempts that the first of some run folders with such a file records.

        Raises:
            UserError: the file is broken.
        """
        for file in (folder / FILE for folder in folders):
            if file.is_file():
                what, kinds = "the times of a run's attempts", {"steps": int, "seconds": dict}
                earlier = read_record(file, what, "delete that file", **kinds)
                self.steps += earlier["steps"]
                for stage, value in earlier["seconds"].items():
                    self._seconds[stage] += float(value) if isinstance(value, Real) else 0.0
                return

    def write(self, folder: Path, interval: float = 0.0) -> None:
        """Write steps and seconds into a run folder, at most once per `interval` seconds."""
        if time.monotonic() - self._written >= interval:
            write_json(folder / FILE, {"steps": self.steps, "seconds": self.seconds()})
            self._written = time.monotonic()
