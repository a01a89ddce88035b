"""Rules that decide whether a finished run is a valid result for a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fdbpl.runs.environment import part_of


@dataclass(frozen=True)
class Outcome:
    """A run's records.

    Attributes:
        config: its configuration, {"A.B": value}.
        metrics: the content of metrics.json; {} if there is none.
        record: the content of run.json; {} if there is none.
    """

    config: Mapping[str, Any]
    metrics: dict[str, Any]
    record: dict[str, Any]

    @property
    def split(self) -> str:
        """The split of the accuracy: test or val."""
        return str(part_of(self.metrics, "tested").get("split") or self.config.get("TEST.SPLIT", "test"))

    @property
    def student(self) -> str | None:
        """SHA-256 of the weights of the student's CLIP; None if it was not recorded."""
        return part_of(self.record, "inputs").get("student")

    @property
    def classnames(self) -> list[str]:
        """Class names of the run's images; empty if they were not recorded."""
        names = part_of(self.metrics, "protocol").get("classnames")
        return names if isinstance(names, list) else []


def tested_on_validation(run: Outcome) -> str:
    """Return why a run's accuracy is not that of test images; "" if it is."""
    if run.split == "test":
        return ""
    return "its accuracy is of validation images (TEST.SPLIT val); test it with TEST.SPLIT test"


def mismatch(training: Outcome, test: Outcome) -> str:
    """Return why a test is not a result of the training that it names; "" if it is."""
    trained, tested = (run.config.get("TRAINER.NAME") for run in (training, test))
    if trained != tested:
        return f"it tests with the trainer {tested} what was trained with {trained}"
    trained, tested = (run.config.get("MODEL.BACKBONE.NAME") for run in (training, test))
    if None in (training.student, test.student):
        if trained != tested:
            return f"it tests with the backbone {tested} what was trained with {trained}"
    elif training.student != test.student:
        return f"it tests with other weights of the backbone ({tested}) than the training had ({trained})"
    names, others = training.classnames, test.classnames
    if not names or not others or training.metrics.get("dataset") != test.metrics.get("dataset"):
        return ""
    learned_half, half = (run.config.get("DATASET.SUBSAMPLE_CLASSES") for run in (training, test))
    both = sorted(set(names) & set(others))
    if half == "new" and learned_half == "base" and both:
        return f"it tests {both[0]!r} as a new class, which the training learned"
    if half == learned_half and names != others:
        return "its classes are not those of the training"
    return ""
