"""Runs of the same thing: one of them counts if their results are equal, none if they differ."""

from collections.abc import Sequence

from fdbpl.report.runs import Problem, Run
from fdbpl.report.settings import describe, differing_keys


def repetitions(runs: Sequence[Run], results: Sequence[object]) -> list[Problem]:
    """A problem for each run but the first, or for each run if the results differ.

    Args:
        runs: of the same thing.
        results: of the finished ones among them.
    """
    if all(result == results[0] for result in results):
        return [Problem(run.path, f"repeats {runs[0].path}, which is in the tables") for run in runs[1:]]
    keys = differing_keys(run.settings for run in runs)
    texts = {run.path: _describe_result(run, keys) for run in runs}
    return [
        Problem(
            path,
            f"{text}: differs from repetitions with the same seed, "
            + ", ".join(f"{other} ({result})" for other, result in texts.items() if other != path)
            + ". None of them is in the tables; delete all but one",
        )
        for path, text in texts.items()
    ]


def _describe_result(run: Run, keys: list[str]) -> str:
    settings = describe({key: run.settings.get(key) for key in keys})
    result = f"{run.accuracy:.2f}" if run.finished else run.state
    return f"{result} with {settings}" if settings else result
