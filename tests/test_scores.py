"""Scores of classification against scikit-learn, torchmetrics and closed forms."""

import numpy as np
import pytest
import sklearn.metrics
from scipy.special import log_softmax, softmax

from fdbpl import scores


@pytest.fixture(scope="module", params=[(400, 7), (5000, 3)], ids=["400 images", "more than one chunk"])
def classified(request) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of unbalanced classes, of which the last has no image."""
    images, classes = request.param
    generator = np.random.default_rng(images)
    labels = generator.choice(classes - 1, images, p=(share := np.arange(1.0, classes)) / share.sum())
    logits = generator.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += 1
    return 2 * logits, labels


def test_scores_equal_scikit_learn(classified):
    logits, labels = classified
    classes, probabilities, predictions = range(logits.shape[1]), softmax(logits.astype(float), 1), logits.argmax(1)
    found = scores.outcomes(logits, labels)
    summary = scores.summarize(found, len(classes))
    recalls = sklearn.metrics.recall_score(labels, predictions, average=None, labels=classes[:-1])
    present = sorted(set(labels))
    assert summary["accuracy"] == pytest.approx(100 * sklearn.metrics.accuracy_score(labels, predictions), abs=1e-6)
    assert summary["macro_f1"] == pytest.approx(
        100 * sklearn.metrics.f1_score(labels, predictions, average="macro", labels=present), abs=1e-6
    )
    assert summary["balanced_accuracy"] == pytest.approx(100 * recalls.mean(), abs=1e-6)
    assert summary["per_class_accuracy"] == [*(pytest.approx(100 * value, abs=1e-6) for value in recalls), None]
    assert summary["nll"] == pytest.approx(
        sklearn.metrics.log_loss(labels, probabilities, labels=list(classes)), abs=1e-6
    )
    one_hot = np.eye(len(classes))[labels]
    assert summary["brier"] == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean(), abs=1e-6)
    assert (
        scores.confusion_matrix(labels, predictions, len(classes))
        == sklearn.metrics.confusion_matrix(labels, predictions, labels=classes)
    ).all()
    assert found.predictions.tolist() == predictions.tolist()


def test_calibration_error_equals_torchmetrics(classified):
    functional = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    logits, labels = classified
    summary = scores.summarize(scores.outcomes(logits, labels), logits.shape[1])
    probabilities = torch.from_numpy(softmax(logits.astype(float), 1))
    theirs = functional.multiclass_calibration_error(
        probabilities, torch.from_numpy(labels), logits.shape[1], n_bins=15
    )
    assert summary["ece"] == pytest.approx(100 * float(theirs), abs=1e-4)  # torchmetrics sums in float32


def test_calibration_errors_equal_their_definitions(classified):
    logits, labels = classified
    found = scores.outcomes(logits, labels)
    confidences, correct = softmax(logits.astype(float), 1).max(1), logits.argmax(1) == labels
    edges = [(confidences >= b / 15) & (confidences < (b + 1) / 15) for b in range(15)]
    order = np.argsort(confidences)
    equal = np.array_split(order, 15)
    for bins, groups in ((scores.calibration_bins, edges), (scores.adaptive_bins, equal)):
        gaps = [
            len(confidences[group]) / len(labels) * abs(confidences[group].mean() - correct[group].mean())
            for group in groups
            if len(confidences[group])
        ]
        error = scores.calibration_error(bins(found.confidences, found.labels == found.predictions))
        assert error == pytest.approx(100 * sum(gaps), abs=1e-6)


def test_closed_forms():
    """Two classes with probabilities 0.81 and 0.19, three of four predictions correct; log-probabilities are logits."""
    logits = np.log([[0.81, 0.19]] * 3 + [[0.19, 0.81]])
    found = scores.outcomes(logits, np.array([0, 0, 1, 1]))
    summary = scores.summarize(found, 2)
    assert summary["ece"] == pytest.approx(6.0, abs=1e-6)  # |0.81 - 0.75|
    assert summary["brier"] == pytest.approx((3 * 2 * 0.19**2 + 2 * 0.81**2) / 4, abs=1e-6)
    assert summary["nll"] == pytest.approx(-(3 * np.log(0.81) + np.log(0.19)) / 4, abs=1e-6)
    assert summary["per_class_accuracy"] == [100.0, 50.0] and summary["balanced_accuracy"] == 75.0
    bins = scores.calibration_bins(found.confidences, found.labels == found.predictions)
    assert bins.counts.tolist() == [0] * 12 + [4, 0, 0] and bins.accuracies[12] == 0.75


def test_extreme_logits_and_full_confidence():
    found = scores.outcomes(np.array([[1e4, 0.0], [0.0, 1e4]], dtype=np.float32), np.array([0, 0]))
    summary = scores.summarize(found, 2)
    assert summary["nll"] == pytest.approx(5e3) and summary["brier"] == 1.0 and summary["ece"] == 50.0
    assert scores.calibration_bins(found.confidences, found.labels == found.predictions).counts[-1] == 2


def test_adaptive_bins_do_not_depend_on_the_order_of_images():
    generator = np.random.default_rng(0)
    confidences, correct = generator.choice([0.5, 0.9, 1.0], 100), generator.random(100) < 0.7
    error = scores.calibration_error(scores.adaptive_bins(confidences, correct))
    for _ in range(5):
        order = generator.permutation(100)
        assert scores.calibration_error(scores.adaptive_bins(confidences[order], correct[order])) == error


def test_log_probabilities_are_logits(classified):
    logits, labels = classified
    again = scores.outcomes(log_softmax(logits.astype(float), 1), labels)
    assert again.nll == pytest.approx(scores.outcomes(logits, labels).nll, abs=1e-6)
