"""The four protocols: the script that runs each, and the folders that it leaves."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Protocol:
    """How a model is learnt and tested.

    Attributes:
        script: of scripts/, runs one cell of a grid.
        classes: those that are learnt, as DATASET.SUBSAMPLE_CLASSES names them.
        transfers: tested on other data sets.
    """

    name: str
    script: str
    classes: str
    transfers: bool = False

    def folders(self, output: Path, run: str | Path, targets: tuple[str, ...] = ()) -> list[Path]:
        """Run folders below the scripts' OUTPUT: the training's, then the tests' in the order of `targets`."""
        if self.name == "base2new":
            return [output / "base2new" / part / run for part in ("train_base", "test_new")]
        return [output / "train_all" / run, *(output / "evaluation" / target / run for target in targets)]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("base2new", "base2new_train.sh", "base"),
        Protocol("few_shot", "few_shot.sh", "all"),
        Protocol("cross_dataset", "cross_dataset.sh", "all", transfers=True),
        Protocol("domain_generalization", "domain_generalization.sh", "all", transfers=True),
    )
}
