"""Where the seconds went, and after how many runs a region bank has paid for itself."""

import math
from dataclasses import dataclass
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.regions.cost import read_cost
from fdbpl.report.cells import mean
from fdbpl.report.experiments import Results
from fdbpl.report.method_names import online_variant, supervision_of
from fdbpl.report.runs import Run

STAGES = {"build": "loading", "prepare": "preparing", "train": "training", "test": "testing"}


@dataclass(frozen=True)
class Stages:
    """Mean seconds of the trainings of a row on a data set."""

    name: str
    seconds: dict[str, float]


@dataclass(frozen=True)
class BankCost:
    """What a bank took to make; `seconds` is nan where it was not timed."""

    dataset: str
    name: str
    seconds: float
    regions: int
    reason: str = ""


@dataclass(frozen=True)
class BreakEven:
    """After how many runs a bank has paid for itself against the online twin.

    Attributes:
        setting: which classes and shots. generation: seconds of labelling the regions.
        seconds, twin_seconds: mean training seconds of the trainer and of its twin.
    """

    dataset: str
    setting: str
    trainer: str
    twin: str
    generation: float
    seconds: float
    twin_seconds: float

    @property
    def runs(self) -> int | None:
        """ceil(generation / (seconds of the online twin - seconds of the FDBPL run)); None where that is slower."""
        saved = self.twin_seconds - self.seconds
        return max(math.ceil(self.generation / saved), 1) if saved > 0 else None


def stages(rows: dict[str, list], dataset: str) -> list[Stages]:
    """Mean seconds of every stage of each row's trainings on a data set; rows without recorded seconds are left out."""
    found = []
    for name, experiments in rows.items():
        runs = [one.train for one in experiments if one.train.dataset == dataset]
        seconds = {stage: mean(run.seconds(stage) for run in runs) for stage in STAGES}
        seconds = {stage: value for stage, value in seconds.items() if not math.isnan(value)}
        if seconds:
            found.append(Stages(name, seconds))
    return found


def bank_costs(output: Path, results: Results) -> dict[str, list[BankCost]]:
    """The banks that the finished runs read, by data set."""
    found: dict[str, dict[Path, BankCost]] = {}
    for run in results.runs:
        if run.finished and not run.tested and supervision_of(run.trainer) == "bank" and run.exact:
            bank = bank_of(output, run)
            if bank is not None and bank not in found.setdefault(run.dataset, {}):
                found[run.dataset][bank] = _cost(bank, run.dataset)
    return {dataset: list(banks.values()) for dataset, banks in found.items() if banks}


def bank_of(output: Path, run: Run) -> Path | None:
    """The bank that a run's log names: there, or below `output` where the folder has moved since; None = gone."""
    for log in reversed(run.logs()):
        if log.bank:
            named = Path(log.bank)
            moved = output / "regions" / named.parent.name / named.name
            return next((folder for folder in (moved, named) if (folder / "manifest.json").is_file()), None)
    return None


def _cost(bank: Path, dataset: str) -> BankCost:
    try:
        cost = read_cost(bank)
    except UserError:
        return BankCost(dataset, bank.name, math.nan, 0, "its cost.json is broken")
    if not cost["seconds"] > 0:
        return BankCost(dataset, bank.name, math.nan, 0, "its generation was not timed")
    return BankCost(dataset, bank.name, float(cost["seconds"]), int(cost["regions"]))


def break_evens(results: Results, banks: dict[str, list[BankCost]]) -> list[BreakEven]:
    """One for each FDBPL configuration and data set whose online twin has run as well; of several shots the most."""
    found = []
    for dataset, costs in banks.items():
        generation = sum(cost.seconds for cost in costs)
        if math.isnan(generation):
            continue
        groups: dict[tuple, list[Run]] = {}
        for run in results.runs:
            if run.finished and not run.tested and run.exact and run.dataset == dataset:
                setting = (run.classes, run.backbone, run.shots)
                groups.setdefault((run.trainer, run.config, run.epochs, setting), []).append(run)
        pairs = {}
        for (trainer, config, epochs, setting), runs in sorted(groups.items()):
            if supervision_of(trainer) != "bank":
                continue
            twin = online_variant(trainer)
            twins = groups.get((twin, config, epochs, setting)) or [
                run for key, others in groups.items() if (key[0], *key[2:]) == (twin, epochs, setting) for run in others
            ]
            seconds, twin_seconds = (mean(run.seconds("train") for run in part) for part in (runs, twins))
            if not math.isnan(seconds + twin_seconds):
                classes, _, shots = setting
                pairs[trainer, config, classes] = BreakEven(
                    dataset, f"{classes} classes, {shots} shots", trainer, twin, generation, seconds, twin_seconds
                )
        found += pairs.values()
    return found
