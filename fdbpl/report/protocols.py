"""Titles of the protocols and order of the data sets in tables."""

from collections.abc import Iterable

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


def transfer_protocol(source: str, target: str) -> str:
    """Protocol of a test on another data set: shifts have the classes of their source in other images."""
    return "domain_generalization" if target in SHIFTS.get(source, ()) else "cross_dataset"
