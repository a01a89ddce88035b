"""Scores of single-label classification: accuracy of each class, macro-F1, calibration, likelihood.

Pure functions of numpy arrays. Accuracies, F1 and calibration errors are in percent; the negative log-likelihood is in
nats; the Brier score is the squared distance of the probabilities from the one-hot label, 0 to 2.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

BINS = 15
ROWS = 4096  # images that are converted to float64 at once


class Outcomes(NamedTuple):
    """Outcomes of N classified images, from which scores are computed.

    Attributes:
        labels: int64 [N].
        predictions: int64 [N], the most likely class.
        confidences: float64 [N], its probability.
        nll: float64 [N], negative log-likelihood of the label in nats.
        brier: float64 [N], Brier score.
    """

    labels: np.ndarray
    predictions: np.ndarray
    confidences: np.ndarray
    nll: np.ndarray
    brier: np.ndarray


class CalibrationBins(NamedTuple):
    """Images grouped by confidence, as in a reliability diagram; NaN in bins without images.

    Attributes:
        counts: int64 [B].
        confidences: float64 [B], mean confidence, 0 to 1.
        accuracies: float64 [B], share of correct predictions, 0 to 1.
    """

    counts: np.ndarray
    confidences: np.ndarray
    accuracies: np.ndarray


def outcomes(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
    """Compare logits [N, C] with labels [N]; log-probabilities are valid logits."""
    labels = np.asarray(labels, dtype=np.int64)
    parts = [
        _outcomes(logits[start : start + ROWS], labels[start : start + ROWS]) for start in range(0, len(labels), ROWS)
    ]
    return Outcomes(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _outcomes(logits: np.ndarray, labels: np.ndarray) -> Outcomes:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    probabilities = np.exp(log_probabilities)
    rows = np.arange(len(labels))
    brier = (probabilities**2).sum(axis=1) - 2 * probabilities[rows, labels] + 1
    predictions = logits.argmax(axis=1)
    return Outcomes(labels, predictions, probabilities[rows, predictions], -log_probabilities[rows, labels], brier)


def summarize(found: Outcomes, classes: int) -> dict[str, float | list[float | None]]:
    """Return all scores by their names in metrics.json; the accuracy of a class without images is None."""
    confusion = confusion_matrix(found.labels, found.predictions, classes)
    correct = found.labels == found.predictions
    return {
        "accuracy": accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "balanced_accuracy": balanced_accuracy(confusion),
        "ece": calibration_error(calibration_bins(found.confidences, correct)),
        "adaptive_ece": calibration_error(adaptive_bins(found.confidences, correct)),
        "brier": float(found.brier.mean()),
        "nll": float(found.nll.mean()),
        "per_class_accuracy": [None if np.isnan(value) else value for value in per_class_accuracy(confusion).tolist()],
    }


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> np.ndarray:
    """Return the number of images by label (row) and prediction (column), int64 [C, C]."""
    return np.bincount(classes * np.asarray(labels) + np.asarray(predictions), minlength=classes**2).reshape(
        classes, classes
    )


def accuracy(confusion: np.ndarray) -> float:
    return 100 * float(confusion.trace() / confusion.sum())


def per_class_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Return the recall of each class, float64 [C]; NaN for a class without images."""
    counts = confusion.sum(axis=1)
    return 100 * np.divide(confusion.diagonal(), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean of the accuracies of the classes with images, so that each class counts equally."""
    return float(np.nanmean(per_class_accuracy(confusion)))


def macro_f1(confusion: np.ndarray) -> float:
    """Return the mean F1 of the classes with images, as Dassl's evaluator computes it."""
    counts, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    f1 = 2 * confusion.diagonal() / np.maximum(counts + predicted, 1)
    return 100 * float(f1[counts > 0].mean())


def calibration_bins(confidences: np.ndarray, correct: np.ndarray, bins: int = BINS) -> CalibrationBins:
    """Return bins of equal width: bin b holds confidences in [b / bins, (b + 1) / bins), the last one also 1."""
    number = np.digitize(confidences, np.linspace(0, 1, bins + 1)[1:-1])
    return _bins(number, confidences, correct, bins)


def adaptive_bins(confidences: np.ndarray, correct: np.ndarray, bins: int = BINS) -> CalibrationBins:
    """Return bins with equal numbers of images (up to one), in the order of confidence."""
    number = np.empty(len(confidences), dtype=np.int64)
    order = np.lexsort((correct, confidences))  # the same bins for any order of the images
    for index, rows in enumerate(np.array_split(order, bins)):
        number[rows] = index
    return _bins(number, confidences, correct, bins)


def _bins(number: np.ndarray, confidences: np.ndarray, correct: np.ndarray, bins: int) -> CalibrationBins:
    counts = np.bincount(number, minlength=bins)
    sums = [np.bincount(number, weights=values, minlength=bins) for values in (confidences, correct)]
    means = [np.divide(total, counts, out=np.full(bins, np.nan), where=counts > 0) for total in sums]
    return CalibrationBins(counts, *means)


def calibration_error(bins: CalibrationBins) -> float:
    """Return the mean distance of confidence and accuracy over the bins, weighted by their counts.

    With `calibration_bins` the expected calibration error (Guo et al., ICML 2017), with `adaptive_bins` the adaptive
    one (Nguyen and O'Connor, EMNLP 2015).
    """
    gaps = np.abs(bins.confidences - bins.accuracies)
    return 100 * float(np.nansum(bins.counts * gaps) / bins.counts.sum())
