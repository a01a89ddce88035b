"""Cost of region banks, and the number of runs after which a bank has saved its generation time."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from fdbpl.errors import UserError
from fdbpl.regions.cost import read_cost
from fdbpl.report.experiments import Results
from fdbpl.report.method_names import student_of, supervision_of
from fdbpl.report.runs import Run
from fdbpl.report.settings import describe

SETTING = ["dataset", "classes", "backbone", "shots", "epochs", "student"]  # equal in two trainings that are compared


def bank_costs(output: Path, results: Results) -> pd.DataFrame:
    """Banks that the finished trainings read: dataset, name, seconds of the generation (NaN = unknown) and reason."""
    banks = {}
    for run in results.trainings:
        if supervision_of(run.trainer) == "bank":
            banks |= {(run.dataset, bank): _generation_seconds(bank) for bank in banks_of(output, run)}
    rows = [(dataset, bank.name, *cost) for (dataset, bank), cost in banks.items()]
    return pd.DataFrame(rows, columns=["dataset", "name", "seconds", "reason"])


def banks_of(output: Path, run: Run) -> list[Path]:
    """The banks that a run's log names, that of a second teacher last, there or below `output` if the folder has moved.

    Banks that do not exist any more are left out.
    """
    named = [Path(bank) for bank in next((log.banks for log in reversed(run.logs()) if log.banks), [])]
    places = [(output / "regions" / bank.parent.name / bank.name, bank) for bank in named]
    found = [next((folder for folder in pair if (folder / "manifest.json").is_file()), None) for pair in places]
    return [folder for folder in found if folder is not None]


def _generation_seconds(bank: Path) -> tuple[float, str]:
    """Seconds, or NaN and the reason why they are unknown."""
    try:
        seconds = float(read_cost(bank)["seconds"])
    except UserError:
        return math.nan, "its cost.json is broken"
    return (seconds, "") if seconds > 0 else (math.nan, "its generation was not timed")


def break_evens(results: Results, banks: pd.DataFrame) -> pd.DataFrame:
    """Compare each configuration that learns from a bank with the online variants of the same student.

    Trainings are grouped by the digest of their settings. Where several numbers of shots were run, the largest counts;
    online trainings with the same overrides are preferred to others.

    Returns:
        dataset, classes, shots; name (of the trainer with its overrides) and seconds (mean of the trainings), each also
        of the online variant (`_online`); generation (seconds); and runs, the number after which the bank has saved its
        generation: ceil(generation / (seconds_online - seconds)), NaN where training from the bank is not faster.
    """
    rows = [
        run.as_row()
        | {"student": student_of(run.trainer), "supervision": supervision_of(run.trainer)}
        | {"name": run.trainer + (f" ({describe(run.overrides)})" if run.overrides else "")}
        for run in results.trainings
    ]
    if not rows or banks.empty:
        return pd.DataFrame()
    configuration = [*SETTING, "trainer", "settings"]
    means = pd.DataFrame(rows).groupby([*configuration, "supervision"], as_index=False)
    means = means.agg(seconds=("seconds_train", "mean"), overrides=("overrides", "min"), name=("name", "min"))
    bank, online = (means[means["supervision"] == kind].dropna(subset="seconds") for kind in ("bank", "online"))
    pairs = bank.merge(online, on=SETTING, suffixes=("", "_online"))
    if pairs.empty:
        return pairs
    pairs["alike"] = pairs["overrides"] == pairs["overrides_online"]
    pairs = pairs[pairs["alike"] | ~pairs.groupby(configuration)["alike"].transform("any")]
    most = pairs.groupby(["dataset", "classes", "trainer", "overrides"])["shots"].transform("max")
    generation = banks.groupby("dataset")["seconds"].agg(lambda seconds: seconds.sum(skipna=False))
    pairs = pairs[pairs["shots"] == most].assign(generation=pairs["dataset"].map(generation))
    saved = (pairs["seconds_online"] - pairs["seconds"]).where(lambda seconds: seconds > 0)
    return pairs.assign(runs=np.ceil(pairs["generation"] / saved)).dropna(subset="generation")
