"""Missing results: planned cells and started runs that give none."""

from collections.abc import Mapping
from dataclasses import dataclass

from fdbpl.report.plan import Planned
from fdbpl.report.protocols import transfer_protocol
from fdbpl.report.runs import Run
from fdbpl.runs.results import shots_text


@dataclass(frozen=True)
class Missing:
    """A missing result. `state` is planned, failed or unfinished; `key` is that of the planned cell, if any."""

    protocol: str
    what: str
    state: str
    reason: str
    key: tuple | None = None


def find_missing(
    planned: list[Planned],
    accuracies: Mapping[tuple, dict[str, float]],
    complete: set[str],
    trainings: list[Run],
    tests: Mapping[str, list[Run]],
) -> list[Missing]:
    """Planned cells without a result, in the plan's order, then runs that were started without a plan.

    Args:
        accuracies: of the experiments, by key of the planned cell and by column.
        complete: paths of the trainings that are part of an experiment or repeat another one.
        tests: of each training, by its path.
    """
    started = {(run.classes, *_cell(run)): run for run in trainings if run.exact}
    missing, explained = [], set()
    for cell in planned:
        run = started.get(("base" if cell.protocol == "base2new" else "all", *cell.key[1:]))
        found = accuracies.get(cell.key)
        untested = [target for target in cell.targets if target not in (found or {})]
        if run:
            explained.add(run.path)
        if found and not untested:
            continue
        state, reason = _state(cell, run, tests.get(run.path, []) if run else [])
        if untested and run and run.finished:
            reason += f"; no test on {', '.join(untested)}"
        what = f"{cell.label}, {cell.dataset}, {shots_text(cell.shots)}, seed {cell.seed}"
        missing.append(Missing(cell.protocol, what, state, reason, cell.key))
    for run in trainings:
        if run.path not in explained:
            missing += _started(run, run.path in complete, tests.get(run.path, []))
    return missing


def _cell(run: Run) -> tuple:
    return (run.trainer, run.config, run.dataset, run.shots, run.seed)


def _state(cell: Planned, run: Run | None, tests: list[Run]) -> tuple[str, str]:
    """State and reason of a planned cell without a result."""
    if cell.status == "failed":
        return "failed", cell.reason or "failed without a message"
    if run is None:
        return "planned", "marked as done, but its run is not here" if cell.status == "done" else "not run yet"
    if not run.finished:
        return "unfinished", run.state
    return "unfinished", _test_state(tests) if cell.protocol.startswith("base2new") else "trained"


def _started(run: Run, complete: bool, tests: list[Run]) -> list[Missing]:
    """Missing results of a training that is not planned."""
    what = f"{run.trainer}, {run.dataset}, {shots_text(run.shots)}, seed {run.seed} ({run.path})"
    missing = []
    if not run.finished:
        missing.append(Missing("base2new" if run.classes == "base" else "few_shot", what, "unfinished", run.state))
    elif run.classes == "base" and not complete:
        missing.append(Missing("base2new", what, "unfinished", _test_state(tests)))
    for test in tests if run.classes != "base" else ():
        if not test.finished:
            same = test.dataset == run.dataset
            protocol = "base2new_all" if same else transfer_protocol(run.dataset, test.dataset)
            where = f"the {test.classes} classes" if same else test.dataset
            missing.append(Missing(protocol, f"{what}, tested on {where}", "unfinished", test.state))
    return missing


def _test_state(tests: list[Run]) -> str:
    states = [test.state for test in tests if test.classes == "new" and not test.finished]
    return states[0] if states else "trained, not tested on the new classes yet"
