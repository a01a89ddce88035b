"""Titles of the protocols, order of the data sets in tables, and the published numbers of `published.yaml`."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean

import yaml

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


NEEDS = {  # what a published method needs that plain prompt learning does not
    "half": "knows the half of the tested class",
    "images": "uses unlabelled images of the tested classes",
    "descriptions": "uses descriptions by a language model",
    "tuned": "tuned for each data set",
}


@dataclass(frozen=True)
class Published:
    """One row of a published table.

    Attributes:
        datasets: those of the paper's `average`, without the source.
        source: where the numbers were read.
        values: (base, new, H) or (accuracy,) by data set; None = not published.
        average: (base, new, H) or (accuracy,); accuracies for each of `by_shots` in few-shot tables.
        needs: keys of NEEDS.
    """

    trainer: str
    datasets: list[str]
    source: str
    values: dict[str, list[float | None]]
    average: list[float | None]
    by_shots: list[int]
    needs: list[str]
    note: str

    @property
    def name(self) -> str:
        return f"{self.trainer} ({'; '.join(['published', *(NEEDS[key] for key in self.needs)])})"

    def average_of(self, datasets: list[str]) -> list[float | None] | None:
        """The published average if it is over `datasets`, else the same average of these; None if one is missing."""
        if set(datasets) == set(self.datasets):
            return self.average
        rows = [self.values.get(dataset, [None])[:2] for dataset in datasets]
        numbers = [[value for value in row if value is not None] for row in rows]
        if not rows or numbers != rows:
            return None
        means = [fmean(column) for column in zip(*numbers, strict=True)]
        return [*means] if len(means) == 1 else [*means, harmonic_mean(*means)]


def read_published(protocol: str, backbone: str, shots: int, source: str = "") -> list[Published]:
    """Published rows for a protocol, the student's backbone, the number of shots and the source data set.

    Args:
        shots: 0 in few-shot tables, which have several.
    """
    setting = (protocol, backbone, shots, source)
    return [
        _published(table, row)
        for table in _published_tables()
        if setting == (table["protocol"], table["backbone"], table["shots"], table.get("source_dataset", ""))
        for row in table["rows"]
    ]


def _published(table: dict, row: dict) -> Published:
    numbers = zip(table["datasets"], row["values"], strict=True) if "values" in row else ()
    return Published(
        trainer=row["trainer"],
        datasets=[name for name in table["datasets"] if name != table.get("source_dataset")],
        source=row.get("source", table["source"]),
        values={name: value if isinstance(value, list) else [value] for name, value in numbers if value is not None},
        average=row.get("average", []),
        by_shots=table.get("by_shots", []),
        needs=row.get("needs", []),
        note=row.get("note", ""),
    )


@cache
def _published_tables() -> list[dict]:
    return yaml.safe_load(resources.files("fdbpl.report").joinpath("published.yaml").read_text(encoding="utf-8"))
