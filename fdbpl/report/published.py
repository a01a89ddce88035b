"""Published numbers, read from `published.json`, for tables of the same setting."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean

from fdbpl.runs.metrics import harmonic_mean


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        values: (base, new, H) or (accuracy,) by data set; None = not published.
        average: the paper's own average over the data sets `over`, without the source.
        source: where the numbers were read.
    """

    trainer: str
    values: dict[str, list[float | None]]
    average: list[float]
    over: list[str]
    source: str
    note: str

    def average_of(self, datasets: list[str]) -> list[float] | None:
        """The published average if it is over `datasets`, else the same average of these; None if one is missing."""
        if set(datasets) == set(self.over):
            return self.average
        rows = [self.values.get(dataset, [None])[:2] for dataset in datasets]
        if not rows or any(value is None for row in rows for value in row):
            return None
        means = [fmean(column) for column in zip(*rows, strict=True)]
        return means if len(means) == 1 else [*means, harmonic_mean(*means)]


def read_published(protocol: str, backbone: str, shots: int, source: str = "") -> list[Published]:
    """Published rows for a protocol, the student's backbone, the number of shots and the source data set."""
    return [
        Published(
            row["trainer"], row.get("values", {}), row.get("average", []), table["over"],
            row.get("source", table["source"]), row.get("note", ""),
        )
        for table in _tables()
        if (table["protocol"], table["backbone"], table["shots"]) == (protocol, backbone, shots)
        and table.get("source_dataset", "") == source
        for row in table["rows"]
    ]  # fmt: skip


@cache
def _tables() -> list[dict]:
    return json.loads(resources.files("fdbpl.report").joinpath("published.json").read_text(encoding="utf-8"))
