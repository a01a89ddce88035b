"""Stored predictions of a test: confusion.npz of every run, predictions.csv of runs with TEST.SAVE_PREDICTIONS."""

import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from fdbpl.report.runs import Run, printable

MAX_BYTES = 2**30  # of an unpacked confusion.npz, and of a predictions.csv


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


def concatenate(parts: list[Predictions]) -> Predictions:
    """Predictions of several runs with the same classes."""
    fields = ("labels", "predicted", "confidences")
    arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in fields]
    return Predictions(parts[0].classnames, *arrays)


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
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        return None
    labels, predicted, confidences = parts
    in_range = all(one.dtype.kind in "iu" and ((one >= 0) & (one < len(names))).all() for one in (labels, predicted))
    same_shape = len({part.shape for part in parts}) == labels.ndim == 1
    if not in_range or not same_shape or not len(labels) or confidences.dtype.kind != "f":
        return None
    return Predictions(names, labels, predicted, confidences)


def read_mistakes(run: Run, count: int) -> list[Mistake]:
    """The `count` most confident mistakes in a run's predictions.csv, or in that of an evaluation of its test."""
    files = [run.folder / "predictions.csv", run.folder / "evaluation" / "test_images" / "predictions.csv"]
    file = next((file for file in files if file.is_file()), None)
    if not file or file.stat().st_size > MAX_BYTES:
        return []
    try:
        columns = pd.read_csv(file, nrows=0, encoding_errors="replace").columns
        kinds = {name: "float32" if place > 2 else "str" for place, name in enumerate(columns)}
        table = pd.read_csv(file, dtype=kinds, keep_default_na=False, encoding_errors="replace")
    except (OSError, ValueError):
        return []
    if table.shape[1] < 4:
        return []
    probabilities = table.iloc[:, 3:].to_numpy()
    wrong = np.flatnonzero(table.iloc[:, 1] != table.iloc[:, 2])
    worst = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:count]
    return [_mistake(table, row, probabilities[row]) for row in worst]


def _mistake(table: pd.DataFrame, row: int, probabilities: np.ndarray) -> Mistake:
    path, label, predicted = (printable(text) for text in table.iloc[row, :3])
    if len(probabilities) == 1:  # an evaluation stores that of the predicted class only
        return Mistake(path, label, [(predicted, float(probabilities[0]))])
    names = [printable(str(name)) for name in table.columns[3:]]
    order = np.argsort(-probabilities, kind="stable")[:3]
    return Mistake(path, label, [(names[place], float(probabilities[place])) for place in order])
