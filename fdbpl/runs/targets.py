"""The data sets that a source is tested on unless TARGETS names others: targets.txt, which the scripts read as well."""

from pathlib import Path


def default_targets(protocol: str) -> dict[str, tuple[str, ...]]:
    """The targets of each source that has its own in `protocol`, in the order of the field's tables.

    `same_classes` names those that have exactly the classes of their source.
    """
    lines = [line.split() for line in Path(__file__).with_name("targets.txt").read_text("utf-8").splitlines()]
    return {source: tuple(targets) for of, source, *targets in lines if of == protocol}
