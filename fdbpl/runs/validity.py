"""Rules that decide whether a finished run is a result that may stand in a table."""

from collections.abc import Mapping
from typing import Any


def tested_on_validation(config: Mapping[str, Any]) -> str:
    """Why a run's accuracy is not of test images; "" where it is.

    Args:
        config: {"A.B": value}, as recorded.
    """
    if str(config.get("TEST.SPLIT", "test")) == "test":
        return ""
    return "its accuracy is of validation images (TEST.SPLIT val). Test it with TEST.SPLIT test"


def mismatch(
    trained: Mapping[str, Any], learned: Mapping[str, Any], tested: Mapping[str, Any], metrics: Mapping[str, Any]
) -> str:
    """Why a test is not a result of the run that it names; "" where it is.

    Args:
        trained, tested: configurations of the training and of the test, {"A.B": value}.
        learned, metrics: the content of their metrics.json; {} where there is none.
    """
    for key, what in (("TRAINER.NAME", "trainer"), ("MODEL.BACKBONE.NAME", "backbone")):
        if trained.get(key) != tested.get(key):
            return f"it tests with the {what} {tested.get(key)} what was trained with {trained.get(key)}"
    names = _class_names(learned)
    other = _class_names(metrics)
    if not names or not other or learned.get("dataset") != metrics.get("dataset"):
        return ""
    half, trained_half = (config.get("DATASET.SUBSAMPLE_CLASSES") for config in (tested, trained))
    both = sorted(set(names) & set(other))
    if half == "new" and trained_half == "base" and both:
        return f"it tests {both[0]!r} as a new class, which the training learned"
    if half == trained_half and names != other:
        return "its classes are not those of the training"
    return ""


def _class_names(metrics: Mapping[str, Any]) -> list[str]:
    protocol = metrics.get("protocol")
    names = protocol.get("classnames") if isinstance(protocol, dict) else None
    return names if isinstance(names, list) else []
