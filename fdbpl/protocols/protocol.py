"""The protocols: the runs of each, and their folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Step(NamedTuple):
    """One call of train.py.

    Attributes:
        kind: "bank" generates the region bank of the training.
        dataset: its name in configs/datasets. classes: DATASET.SUBSAMPLE_CLASSES.
        folder: of the run, below the scripts' OUTPUT. trained: of a test, the folder of the training; else "".
    """

    kind: Literal["bank", "train", "test"]
    dataset: str
    classes: str
    folder: str
    trained: str = ""


@dataclass(frozen=True)
class Protocol:
    """A training and its tests.

    Attributes:
        script: the file of scripts/ that runs it.
        classes: the classes of the training, as DATASET.SUBSAMPLE_CLASSES names them.
        train: folder of the trainings.
        tests: (folder, tested half of the classes).
        transfers: whether it tests on other data sets.
    """

    name: str
    script: str
    classes: str
    train: str = "train_all"
    tests: tuple[tuple[str, str], ...] = ()
    transfers: bool = False

    def steps(self, dataset: str, run: str, targets: Sequence[str] = (), reads_bank: bool = False) -> list[Step]:
        """The calls of train.py in their order.

        Args:
            run: data set, shots, trainer, configuration and seed, as they stand in the folders' names.
            targets: the data sets to test on; own images as `folder:NAME`.
            reads_bank: whether the trainer reads a region bank.
        """
        train = f"{self.train}/{run}"
        banks = [Step("bank", dataset, self.classes, train)] if reads_bank else []
        halves = [Step("test", dataset, half, f"{folder}/{run}", train) for folder, half in self.tests]
        others = []
        for target in targets:
            name, _, own = target.partition(":")
            others.append(Step("test", name, "all", f"evaluation/{own or name}/{run}", train))
        return [*banks, Step("train", dataset, self.classes, train), *halves, *others]

    def test_of(self, half: str, dataset: str, run: str, epoch: str = "") -> Step:
        """A further test of a training, on the "base" or the "new" classes, after its last or another epoch."""
        folder = self.name + f"/test_{half}" + f"_epoch{epoch}" * bool(epoch)
        return Step("test", dataset, half, f"{folder}/{run}", f"{self.train}/{run}")


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "base2new", "base2new_train.sh", "base", train="base2new/train_base", tests=(("base2new/test_new", "new"),)
        ),
        Protocol(
            "base2new_all", "base2new_train.sh", "all",
            tests=(("base2new_all/test_base", "base"), ("base2new_all/test_new", "new")),
        ),
        Protocol("train", "train.sh", "all"),
        Protocol("few_shot", "few_shot.sh", "all"),
        Protocol("cross_dataset", "cross_dataset.sh", "all", transfers=True),
        Protocol("domain_generalization", "domain_generalization.sh", "all", transfers=True),
    )
}  # fmt: skip
