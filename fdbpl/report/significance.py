"""Significance of the difference between two rows of a table.

Two tests are made where their data exist. Over runs: a paired t-test of the runs with the same data set, seed and
split, stratified by data set, with Welch-Satterthwaite degrees of freedom. Over test images: a paired bootstrap of the
images of each test, which needs the predictions of all runs. A difference is significant if neither test attributes it
to chance, i.e. the larger p is below LEVEL divided by the number of comparisons (Bonferroni).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from fdbpl.report.predictions import read_predictions
from fdbpl.report.runs import Run

LEVEL = 0.05
REPLICATES = 3_999  # of the bootstrap


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
    comparisons: int

    @property
    def significant(self) -> bool:
        found = [p for p in (self.over_runs, self.over_images) if p is not None]
        return bool(found) and max(found) * self.comparisons < LEVEL


def compare(
    accuracies: pd.DataFrame, runs: Mapping[str, Run], column: str, best: str, rows: Sequence[str]
) -> dict[str, Difference]:
    """Compare a column of rows with the best row, for rows that have runs with the same seeds on every data set.

    Args:
        accuracies: row, column, dataset, pair (equal in runs that belong together), accuracy and paths (of run
            folders); the value of a row is the mean over data sets of the means over runs.
        runs: by path.
    """
    halves = ["base", "new"] if column == "H" else [column]
    values = _by_pair(accuracies, column, "accuracy")
    paths = [_by_pair(accuracies, half, "paths") for half in halves]
    found = {}
    for row in rows:
        paired = values[[best, row]].dropna()
        if set(paired.index.unique("dataset")) == set(values.index.unique("dataset")):
            difference = paired[best] - paired[row]
            images = [_image_results(half[[best, row]].dropna(), runs) for half in paths]
            known = [half for half in images if half]
            found[row] = Difference(
                float(difference.groupby("dataset").mean().mean()),
                len(difference),
                t_test({name: part.to_numpy() for name, part in difference.groupby("dataset")}),
                bootstrap(known) if len(known) == len(halves) else None,
                len(rows),
            )
    return found


def _by_pair(accuracies: pd.DataFrame, column: str, values: str) -> pd.DataFrame:
    """Values of a column by data set and pair, with a column for each row."""
    index = ["dataset", "pair", "row"]
    chosen = accuracies[accuracies["column"] == column].drop_duplicates(index)
    return chosen.set_index(index)[values].unstack()


def t_test(differences: Mapping[str, np.ndarray]) -> float | None:
    """p of the mean over data sets of the mean differences being 0; None if a data set has a single pair."""
    if not (found := _mean_error_freedom(differences)):
        return None
    mean, error, freedom = found
    if not error**2 > 1e-18 * mean**2:  # deterministic methods
        return 1.0 if mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, freedom))


def interval(differences: Mapping[str, np.ndarray]) -> tuple[float, float] | None:
    """Interval of the mean over data sets of the mean differences at level 1 - LEVEL; None as for `t_test`."""
    if not (found := _mean_error_freedom(differences)):
        return None
    mean, error, freedom = found
    half = float(stats.t.isf(LEVEL / 2, freedom)) * error if error else 0.0
    return mean - half, mean + half


def _mean_error_freedom(differences: Mapping[str, np.ndarray]) -> tuple[float, float, float] | None:
    """Mean over data sets, its standard error, and its degrees of freedom (Welch-Satterthwaite)."""
    if not differences or min(map(len, differences.values())) < 2:
        return None
    mean = float(np.mean([part.mean() for part in differences.values()]))
    variances = np.array([part.var(ddof=1) / len(part) for part in differences.values()])
    parts = sum(variance**2 / (len(part) - 1) for variance, part in zip(variances, differences.values(), strict=True))
    freedom = float(variances.sum() ** 2 / parts) if parts else math.inf
    return mean, math.sqrt(variances.sum()) / len(differences), freedom


def paired_differences(accuracies: pd.DataFrame, column: str, row: str, reference: str) -> dict[str, np.ndarray]:
    """Differences of a row from another one in runs of the same data set, seed and split: by data set, in points.

    Empty unless the rows have common runs on every data set.
    """
    values = _by_pair(accuracies, column, "accuracy")
    if not {row, reference} <= set(values.columns):
        return {}
    paired = values[[row, reference]].dropna()
    if set(paired.index.unique("dataset")) != set(values.index.unique("dataset")):
        return {}
    difference = paired[row] - paired[reference]
    return {name: part.to_numpy() for name, part in difference.groupby("dataset")}


Images = list[tuple[float, np.ndarray]]  # weight, and int [A, B]: images that a and b runs of the rows recognise


def _image_results(paths: pd.DataFrame, runs: Mapping[str, Run]) -> Images | None:
    """Results on the images of each test, of all pairs of runs on them; None if a run has no predictions."""
    found: Images = []
    for _, part in paths.groupby("dataset"):
        tests = defaultdict(list)
        for pair in part.itertuples(index=False, name=None):
            tested = [runs[path] for (path,) in pair]
            one, other = (read_predictions(run.folder) for run in tested)
            digests = {run.facts["digest of test images"] for run in tested}
            if not one or not other or len(digests) > 1 or not np.array_equal(one.labels, other.labels):
                return None
            tests[digests.pop()].append((one.correct, other.correct))
        weight = 1 / (paths.index.unique("dataset").size * len(part))
        for results in tests.values():
            ours, theirs = np.sum(results, axis=0)
            size = len(results) + 1
            found.append((weight, np.bincount(size * ours + theirs, minlength=size**2).reshape(size, size)))
    return found


def bootstrap(halves: list[Images]) -> float:
    """p of the difference of accuracies, or of the harmonic means of two halves, being 0 for other test images.

    Images with equal results are interchangeable: multinomial counts of the results are drawn.
    """
    random = np.random.default_rng(0)
    accuracies = []
    for images in halves:
        total = np.zeros((REPLICATES, 2))
        for weight, counts in images:
            results, size = np.argwhere(counts), counts.sum()
            drawn = random.multinomial(size, counts[counts > 0] / size, size=REPLICATES)
            total += weight * (drawn @ results) / size
        accuracies.append(total)
    means = accuracies[0] if len(accuracies) == 1 else stats.hmean(np.maximum(accuracies, 1e-12), axis=0)
    difference = means[:, 0] - means[:, 1]
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    return min(1.0, 2 * float(tail + 1) / (REPLICATES + 1))
