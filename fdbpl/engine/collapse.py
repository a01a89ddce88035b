"""Detection of a collapsed training: all numbers are finite, but the classifier cannot tell classes apart."""

from typing import NamedTuple

from torch import Tensor

NEAR_CHANCE = 1.2  # a training accuracy of at most this multiple of chance counts as chance


class EpochMean(NamedTuple):
    """Means over the batches of an epoch.

    Attributes:
        loss: the sum of all losses.
        accuracy: on the training batches, in percent; None if training uses no labels.
    """

    loss: float
    accuracy: float | None

    @classmethod
    def of(cls, summaries: list[dict[str, float]]) -> "EpochMean":
        """Average the results of the steps of an epoch."""
        accuracies = [one["acc"] for one in summaries if "acc" in one]
        accuracy = sum(accuracies) / len(accuracies) if accuracies else None
        return cls(sum(one["loss"] for one in summaries) / len(summaries), accuracy)


def are_alike(class_features: Tensor, logit_scale: float) -> bool:
    """Return whether unit class features [C, D] are so similar that no two logits of an image differ by more than 1."""
    distance = (class_features - class_features[:1]).norm(dim=-1).max()
    return len(class_features) > 1 and bool(logit_scale * 2 * distance < 1)


def find_collapse(epochs: list[EpochMean], classes: int, class_features: Tensor | None, logit_scale: float) -> str:
    """Describe the signs of a collapsed training; an empty string if there are none.

    Args:
        epochs: of the whole training; empty if they are not known.
        classes: number of classes.
        class_features: unit, [C, D], after the training; None if they depend on the image.
    """
    alike = class_features is not None and are_alike(class_features, logit_scale)
    found = ["the features of all classes are alike"] if alike else []
    if epochs and epochs[-1].loss >= epochs[0].loss:
        first, last = epochs[0], epochs[-1]
        lost = _fell_to_chance(first.accuracy, last.accuracy, 100 / classes)
        if alike or lost:
            found.append(f"the mean loss is {last.loss:.3f} in the last epoch, {first.loss:.3f} in the first")
        if lost:
            found.append(
                f"the training accuracy is {last.accuracy:.1f} % in the last epoch, {first.accuracy:.1f} % in the "
                f"first (chance is {100 / classes:.1f} %)"
            )
    return ", ".join(found)


def _fell_to_chance(first: float | None, last: float | None, chance: float) -> bool:
    """Return whether the training accuracy, in percent, has fallen from clearly above chance to chance."""
    if first is None or last is None:
        return False
    return first >= min(2 * chance, (100 + chance) / 2) and last <= NEAR_CHANCE * chance
