"""Cost of region banks, and the number of runs after which a bank has saved its generation time."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fdbpl.errors import UserError
from fdbpl.regions.cost import read_cost
from fdbpl.report.experiments import Results
from fdbpl.report.method_names import student_of, supervision_of
from fdbpl.report.runs import Run

SETTING = ["dataset", "classes", "backbone", "shots", "epochs", "student"]  # equal in two trainings that are compared


@dataclass(frozen=True)
class BankCost:
    """Generation time of a bank; `seconds` is NaN where it is unknown, for the given reason."""

    dataset: str
    name: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class BreakEven:
    """Comparison of trainings from a region bank with trainings of the same student by an online teacher.

    Attributes:
        trainer, online: names of the two trainers with the settings that their commands override.
        generation: seconds of the bank's generation.
        seconds, online_seconds: mean seconds of training.
    """

    dataset: str
    setting: str
    trainer: str
    online: str
    generation: float
    seconds: float
    online_seconds: float

    @property
    def runs(self) -> int | None:
        """ceil(generation / (online_seconds - seconds)); None where training from the bank is not faster."""
        saved = self.online_seconds - self.seconds
        return max(math.ceil(self.generation / saved), 1) if saved > 0 else None


def bank_costs(output: Path, results: Results) -> list[BankCost]:
    """Costs of the banks that the finished trainings read."""
    banks = {}
    for run in results.trainings:
        if supervision_of(run.trainer) == "bank" and (bank := bank_of(output, run)):
            banks[run.dataset, bank] = None
    return [_bank_cost(bank, dataset) for dataset, bank in banks]


def bank_of(output: Path, run: Run) -> Path | None:
    """The bank that a run's log names, there or below `output` if the folder has moved; None if it does not exist."""
    for log in reversed(run.logs()):
        if log.bank:
            named = Path(log.bank)
            moved = output / "regions" / named.parent.name / named.name
            return next((folder for folder in (moved, named) if (folder / "manifest.json").is_file()), None)
    return None


def _bank_cost(bank: Path, dataset: str) -> BankCost:
    try:
        seconds = float(read_cost(bank)["seconds"])
    except UserError:
        return BankCost(dataset, bank.name, math.nan, "its cost.json is broken")
    if not seconds > 0:
        return BankCost(dataset, bank.name, math.nan, "its generation was not timed")
    return BankCost(dataset, bank.name, seconds)


def break_evens(results: Results, banks: list[BankCost]) -> list[BreakEven]:
    """Compare each configuration that learns from a bank with the online variants of the same student.

    Trainings are grouped by the digest of their settings. Where several numbers of shots were run, the largest counts;
    online trainings with the same overrides are preferred to others.
    """
    rows = [
        run.as_row() | {"student": student_of(run.trainer), "supervision": supervision_of(run.trainer)}
        for run in results.trainings
    ]
    if not rows or not banks:
        return []
    configuration = [*SETTING, "trainer", "settings"]
    means = pd.DataFrame(rows).groupby([*configuration, "supervision"], as_index=False)
    means = means.agg(seconds=("seconds_train", "mean"), overrides=("overrides", "min")).dropna(subset="seconds")
    bank, online = (means[means["supervision"] == kind] for kind in ("bank", "online"))
    pairs = bank.merge(online, on=SETTING, suffixes=("", "_online"))
    generation = pd.DataFrame(banks).groupby("dataset")["seconds"].agg(lambda seconds: seconds.sum(skipna=False))
    pairs["generation"] = pairs["dataset"].map(generation)
    pairs["alike"] = pairs["overrides"] == pairs["overrides_online"]
    pairs = pairs[pairs["alike"] | ~pairs.groupby(configuration)["alike"].transform("any")]
    most = pairs.groupby(["dataset", "classes", "trainer", "overrides"])["shots"].transform("max")
    pairs = pairs[(pairs["shots"] == most) & pairs["generation"].notna()]
    return [
        BreakEven(
            one.dataset, f"{one.classes} classes, {one.shots} shots", _name(one.trainer, one.overrides),
            _name(one.trainer_online, one.overrides_online), one.generation, one.seconds, one.seconds_online,
        )
        for one in pairs.itertuples()
    ]  # fmt: skip


def _name(trainer: str, overrides: str) -> str:
    return f"{trainer} ({overrides})" if overrides else trainer
