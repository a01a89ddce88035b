"""Stored predictions of a test: confusion.npz of every run, predictions.csv of runs with TEST.SAVE_PREDICTIONS."""

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

MAX_BYTES = 2**29  # of an unpacked confusion.npz


@dataclass(frozen=True)
class Predictions:
    """Labels, predicted classes and the probabilities of these, of N test images in their order."""

    classnames: list[str]
    labels: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return self.labels == self.predicted


@dataclass(frozen=True)
class Mistake:
    """A misclassified image; `classes` are the most probable ones with their probabilities."""

    path: str
    label: str
    classes: list[tuple[str, float]]


def read_predictions(folder: Path) -> Predictions | None:
    """The predictions of a run folder; None if there are none or the file is broken."""
    file = folder / "confusion.npz"
    return _read_confusion(file, file.stat().st_mtime_ns) if file.is_file() else None


@cache
def _read_confusion(file: Path, _: int) -> Predictions | None:
    """Predictions of a version of a file."""
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                return None
        with np.load(file, allow_pickle=False) as content:
            names = [str(name) for name in content["classnames"]]
            parts = [content[name] for name in ("labels", "predictions", "confidences")]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    labels, predicted, confidences = parts
    in_range = all(one.dtype.kind in "iu" and ((one >= 0) & (one < len(names))).all() for one in (labels, predicted))
    if not in_range or confidences.dtype.kind != "f" or not len(labels) or len({part.shape for part in parts}) != 1:
        return None
    return Predictions(names, labels, predicted, confidences)


def read_mistakes(folder: Path, count: int) -> list[Mistake]:
    """The `count` misclassified images of predictions.csv with the least probable labels; none without this file."""
    try:
        table = pd.read_csv(folder / "predictions.csv", dtype=str, keep_default_na=False, encoding_errors="replace")
        probabilities = table.iloc[:, 3:].to_numpy(dtype=float)
    except (OSError, ValueError):
        return []
    names = [str(name) for name in table.columns[3:]]
    if not names or not set(table.iloc[:, 1]) <= set(names):
        return []
    labels = np.array([names.index(label) for label in table.iloc[:, 1]], dtype=int)
    of_labels = probabilities[np.arange(len(table)), labels]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = wrong[np.argsort(of_labels[wrong], kind="stable")][:count]
    return [
        Mistake(
            table.iloc[row, 0],
            names[labels[row]],
            [(names[place], float(probabilities[row, place])) for place in np.argsort(-probabilities[row])[:3]],
        )
        for row in worst
    ]
