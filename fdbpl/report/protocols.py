"""Titles of the protocols, order of the data sets in tables, and the published numbers of `published.json`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean

from fdbpl.runs.metrics import harmonic_mean
from fdbpl.runs.targets import DEFAULT_TARGETS

PROTOCOL_TITLES = {
    "base2new": "Base-to-new",
    "base2new_all": "Base-to-new, trained on all classes",
    "few_shot": "Few-shot",
    "cross_dataset": "Cross-dataset",
    "domain_generalization": "Domain generalization",
}
OTHERS = DEFAULT_TARGETS["cross_dataset"]
SHIFTS = DEFAULT_TARGETS["domain_generalization"]
DATASETS = (  # in the order of the field's tables
    *("imagenet", *OTHERS["imagenet"], *SHIFTS["imagenet"]), *("demo", *SHIFTS["demo"], *OTHERS["demo"]), "folder",
)  # fmt: skip


def sort_datasets(datasets: Iterable[str]) -> list[str]:
    return sorted(set(datasets), key=lambda name: (DATASETS.index(name) if name in DATASETS else 99, name))


def is_synthetic(dataset: str) -> bool:
    """Whether a data set is one of the embedded demo."""
    return dataset == "demo" or dataset.startswith("demo_")


def transfer_protocol(source: str, target: str) -> str:
    """Protocol of a test on another data set: shifts have the classes of their source in other images."""
    return "domain_generalization" if target in SHIFTS.get(source, ()) else "cross_dataset"


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        over: the data sets of the paper's `average`, without the source.
        source: where the numbers were read.
        values: (base, new, H) or (accuracy,) by data set; None = not published.
    """

    trainer: str
    over: list[str]
    source: str
    values: dict[str, list[float | None]]
    average: list[float]
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.trainer} (published)"

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
    setting = (protocol, backbone, shots, source)
    return [
        Published(**{"over": table["over"], "source": table["source"], "values": {}, "average": [], **row})
        for table in _published_tables()
        if setting == (table["protocol"], table["backbone"], table["shots"], table.get("source_dataset", ""))
        for row in table["rows"]
    ]


@cache
def _published_tables() -> list[dict]:
    return json.loads(resources.files("fdbpl.report").joinpath("published.json").read_text(encoding="utf-8"))
