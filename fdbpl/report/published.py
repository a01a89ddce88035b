"""Numbers from papers, shipped beside: `published.json`. Shown only where the setting is the same."""

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
        values: by data set: (base, new, H), or (accuracy,); None = not published.
        average: of the paper itself, over all of its data sets (without a source).
        over: these data sets.
        source: where it was read. note: what to know about it.
    """

    trainer: str
    values: dict[str, tuple[float | None, ...]]
    average: tuple[float | None, ...]
    over: tuple[str, ...]
    source: str
    note: str

    def average_of(self, datasets: list[str]) -> tuple[float | None, ...] | None:
        """The published average where it is over `datasets`, else the same average over these; None: not all there."""
        if set(datasets) == set(self.over):
            return self.average
        rows = [self.values.get(dataset, (None,)) for dataset in datasets]
        if not rows or any(value is None for row in rows for value in row[:2]):
            return None
        means = [fmean(column) for column in zip(*(row[:2] for row in rows), strict=True)]
        return tuple(means) if len(means) == 1 else (*means, harmonic_mean(*means))


def read_published(protocol: str, backbone: str, shots: int, source: str = "") -> list[Published]:
    """Published rows of a setting: the protocol, the student's backbone, the shots and the source data set."""
    rows = []
    for table in _tables():
        setting = (table["protocol"], table["backbone"], table["shots"], table.get("source_dataset", ""))
        if setting != (protocol, backbone, shots, source):
            continue
        for row in table["rows"]:
            values = {name: tuple(numbers) for name, numbers in row.get("values", {}).items()}
            rows.append(
                Published(
                    row["trainer"],
                    values,
                    tuple(row.get("average", ())),
                    tuple(table["over"]),
                    row.get("source", table["source"]),
                    row.get("note", ""),
                )
            )
    return rows


@cache
def _tables() -> list[dict]:
    return json.loads(resources.files("fdbpl.report").joinpath("published.json").read_text(encoding="utf-8"))
