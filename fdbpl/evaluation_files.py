"""Files of an evaluation: scores.json, the accuracy of each class, the predictions, the confusion matrix."""

import csv
import importlib.util
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from fdbpl import scores
from fdbpl.engine.evaluation import score
from fdbpl.engine.trained_run import TrainedRun
from fdbpl.evaluation_data import ClassifiedData
from fdbpl.io.atomic import atomic_open, write_bytes, write_json
from fdbpl.runs.metrics import harmonic_mean

MAX_TICKS = 50  # class names on the axes of the figure


def write_evaluation(folder: Path, run: TrainedRun, found: ClassifiedData) -> dict[str, Any]:
    """Write all files, scores.json last, and return the content of scores.json.

    The figure is drawn if matplotlib is installed.

    Raises:
        SystemFailure: a file cannot be written.
    """
    names = found.classnames
    values = score(found.logits, found.labels, names, folder / "confusion.npz")
    outcomes = scores.outcomes(found.logits.numpy(), found.labels.numpy())
    confusion = scores.confusion_matrix(outcomes.labels, outcomes.predictions, len(names))
    rows = [[name, *row] for name, row in zip(names, confusion.tolist(), strict=True)]
    _write_csv(folder / "confusion.csv", ["label \\ prediction", *names], rows)
    accuracies = ["" if value is None else f"{value:.4f}" for value in values["per_class_accuracy"]]
    per_class = zip(names, confusion.sum(axis=1).tolist(), accuracies, strict=True)
    _write_csv(folder / "per_class.csv", ["class", "images", "accuracy"], per_class)
    predictions = (
        [path, names[label], names[prediction], f"{confidence:.8g}"]
        for path, label, prediction, confidence in zip(
            found.paths, outcomes.labels, outcomes.predictions, outcomes.confidences, strict=True
        )
    )
    _write_csv(folder / "predictions.csv", ["path", "label", "prediction", "probability"], predictions)
    if importlib.util.find_spec("matplotlib"):
        write_bytes(folder / "confusion.png", draw_confusion(confusion, names))
    content = {
        "data": found.source,
        "run": {"folder": str(run.folder), "fingerprint": run.fingerprint},
        "images": len(found.labels),
        **values,
        **({} if found.base_images is None else {"joint": joint_accuracies(outcomes, found.base_images)}),
        "classnames": names,
        "unreadable": found.unreadable,
    }
    write_json(folder / "scores.json", content)
    return content


def joint_accuracies(outcomes: scores.Outcomes, base_images: int) -> dict[str, float]:
    """Accuracies in percent of the first `base_images` images and of the others, and their harmonic mean."""
    correct = outcomes.labels == outcomes.predictions
    base, new = (100 * float(part.mean()) for part in (correct[:base_images], correct[base_images:]))
    return {"base": base, "new": new, "H": harmonic_mean(base, new)}


def draw_confusion(confusion: np.ndarray, names: list[str]) -> bytes:
    """PNG of the confusion matrix, in percent of the images of each class."""
    from matplotlib.figure import Figure  # optional dependency; a figure without pyplot needs no display

    size = 4 + 0.2 * min(len(names), MAX_TICKS)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.add_subplot(xlabel="prediction", ylabel="label")
    shares = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="Blues")
    figure.colorbar(image, ax=axes, label="% of the images of a class", shrink=0.7)
    if len(names) <= MAX_TICKS:
        ticks = [name.replace("$", r"\$") for name in names]  # no formulas
        axes.set_xticks(range(len(ticks)), ticks, rotation=90)
        axes.set_yticks(range(len(ticks)), ticks)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _write_csv(file: Path, columns: list[str], rows: Iterable[Iterable]) -> None:
    with atomic_open(file, errors="surrogateescape") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)
