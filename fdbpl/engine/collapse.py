"""Recognition of a training that collapsed: its numbers are finite, but its classifier cannot tell classes apart."""

from typing import NamedTuple

from torch import Tensor

NEAR_CHANCE = 1.2  # a training accuracy of at most this times that of a guess is at chance


class EpochMean(NamedTuple):
    """Means over the batches of an epoch.

    Attributes:
        loss: the sum of the loss terms.
        accuracy: on the training batches, in percent; None where training reads no labels.
    """

    loss: float
    accuracy: float | None

    @classmethod
    def of(cls, summaries: list[dict[str, float]]) -> "EpochMean":
        """Of what the steps of an epoch returned."""
        accuracies = [one["acc"] for one in summaries if "acc" in one]
        accuracy = sum(accuracies) / len(accuracies) if accuracies else None
        return cls(sum(one["loss"] for one in summaries) / len(summaries), accuracy)


def are_alike(class_features: Tensor, logit_scale: float) -> bool:
    """Whether unit class features [C, D] are so alike that no image has logits that differ by more than 1."""
    distance = (class_features - class_features[:1]).norm(dim=-1).max()
    return len(class_features) > 1 and bool(logit_scale * 2 * distance < 1)


def find_collapse(epochs: list[EpochMean], classes: int, class_features: Tensor | None, logit_scale: float) -> str:
    """What shows that a training collapsed; empty where nothing does.

    Args:
        epochs: of the whole training; empty where they are not known.
        classes: number of classes that were learnt.
        class_features: unit ones after the training, [C, D]; None where they depend on the image.
    """
    alike = class_features is not None and are_alike(class_features, logit_scale)
    found = ["the features of all classes are alike"] if alike else []
    if epochs and epochs[-1].loss >= epochs[0].loss:
        lost = _fell_to_chance(epochs[0].accuracy, epochs[-1].accuracy, 100 / classes)
        if alike or lost:
            found.append(f"the mean loss is {epochs[-1].loss:.3f} in the last epoch, {epochs[0].loss:.3f} in the first")
        if lost:
            found.append(
                f"the training accuracy is {epochs[-1].accuracy:.1f} % in the last epoch, {epochs[0].accuracy:.1f} % "
                f"in the first ({100 / classes:.1f} % for a guess)"
            )
    return ", ".join(found)


def _fell_to_chance(first: float | None, last: float | None, chance: float) -> bool:
    """Whether the training accuracy, in percent, was clearly above that of a guess and no longer is."""
    if first is None or last is None:
        return False
    return first >= min(2 * chance, (100 + chance) / 2) and last <= NEAR_CHANCE * chance
