"""Significance of the difference between two rows of a table.

Two tests are made where their data exist. Over runs: a paired t-test of the runs with the same data set, seed and
split, stratified by data set, with Welch-Satterthwaite degrees of freedom. Over test images: a paired bootstrap of the
images of each test, which needs the predictions of all runs. A difference is significant if neither test attributes it
to chance, i.e. the larger p is below LEVEL divided by the number of comparisons (Bonferroni).
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fdbpl.report.predictions import read_predictions
from fdbpl.report.runs import Run

LEVEL = 0.05
REPLICATES = 9_999  # of the bootstrap


@dataclass(frozen=True)
class Difference:
    """Difference in points of a row's value from the best row's, over `runs` pairs of runs.

    Attributes:
        over_runs, over_images: p of each test; None where it cannot be made.
        comparisons: number of rows that are compared with the best one.
    """

    points: float
    runs: int
    over_runs: float | None
    over_images: float | None
    comparisons: int = 1

    @property
    def significant(self) -> bool:
        found = [p for p in (self.over_runs, self.over_images) if p is not None]
        return bool(found) and max(found) * self.comparisons < LEVEL


def compare(
    accuracies: pd.DataFrame, runs: Mapping[str, Run], column: str, best: str, row: str, comparisons: int = 1
) -> Difference | None:
    """Compare a column of two rows; None where they have no runs with the same seed on every data set.

    Args:
        accuracies: row, column, dataset, pair (equal in runs that belong together), accuracy and paths (of run
            folders); the value of a row is the mean over data sets of the means over runs.
        runs: by path.
    """
    values = _paired(accuracies, column, "accuracy", best, row)
    if set(values.index.unique("dataset")) != set(accuracies.loc[accuracies["column"] == column, "dataset"]):
        return None
    difference = values[best] - values[row]
    halves = ["base", "new"] if column == "H" else [column]
    found = [_image_results(_paired(accuracies, half, "paths", best, row), runs) for half in halves]
    images = [half for half in found if half]
    return Difference(
        float(difference.groupby("dataset").mean().mean()),
        len(difference),
        t_test({name: part.to_numpy() for name, part in difference.groupby("dataset")}),
        bootstrap(images) if len(images) == len(halves) else None,
        comparisons,
    )


def _paired(accuracies: pd.DataFrame, column: str, values: str, *rows: str) -> pd.DataFrame:
    """Values of two rows by data set and pair, for the pairs that both rows have."""
    chosen = accuracies[(accuracies["column"] == column) & accuracies["row"].isin(rows)]
    table = chosen.pivot_table(index=["dataset", "pair"], columns="row", values=values, aggfunc="first")
    return table.reindex(columns=list(rows)).dropna()


def t_test(differences: Mapping[str, np.ndarray]) -> float | None:
    """p of the mean over data sets of the mean differences being 0; None if a data set has a single pair."""
    if not differences or min(map(len, differences.values())) < 2:
        return None
    mean = np.mean([part.mean() for part in differences.values()])
    variances = np.array([part.var(ddof=1) / len(part) for part in differences.values()])
    if not variances.sum() > 1e-18 * mean**2:  # deterministic methods
        return 1.0 if mean == 0 else 0.0
    freedom = variances.sum() ** 2 / sum(
        variance**2 / (len(part) - 1) for variance, part in zip(variances, differences.values(), strict=True)
    )
    return float(2 * stats.t.sf(abs(mean) * len(differences) / math.sqrt(variances.sum()), freedom))


Images = list[tuple[float, np.ndarray]]  # weight, and float [N, 2]: share of the runs of each row that are correct


def _image_results(paths: pd.DataFrame, runs: Mapping[str, Run]) -> Images | None:
    """Results by test image of the runs, averaged over those on the same images; None if one has no predictions."""
    found: Images = []
    for _, part in paths.groupby("dataset"):
        tests = defaultdict(list)
        for pair in part.itertuples(index=False, name=None):
            tested = [runs[path] for (path,) in pair]
            one, other = (read_predictions(run.folder) for run in tested)
            digests = {run.facts["digest of test images"] for run in tested}
            if not one or not other or len(digests) > 1 or not np.array_equal(one.labels, other.labels):
                return None
            tests[digests.pop()].append(np.stack([one.correct, other.correct], axis=1))
        weight = 1 / (paths.index.unique("dataset").size * len(part))
        found += [(weight * len(results), np.mean(results, axis=0)) for results in tests.values()]
    return found


def bootstrap(halves: list[Images]) -> float:
    """p of the difference of accuracies, or of the harmonic means of two halves, being 0 for other test images.

    Images with equal results are interchangeable, so that multinomial counts of the distinct results are drawn.
    """
    random = np.random.default_rng(0)
    accuracies = []
    for images in halves:
        total = np.zeros((REPLICATES, 2))
        for weight, results in images:
            distinct, counts = np.unique(results, axis=0, return_counts=True)
            drawn = random.multinomial(len(results), counts / len(results), size=REPLICATES)
            total += weight * (drawn @ distinct) / len(results)
        accuracies.append(total)
    means = accuracies[0] if len(accuracies) == 1 else stats.hmean(np.maximum(accuracies, 1e-12), axis=0)
    difference = means[:, 0] - means[:, 1]
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    return min(1.0, 2 * float(tail + 1) / (REPLICATES + 1))
