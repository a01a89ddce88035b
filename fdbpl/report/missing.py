"""Missing results: cells of `grid.json`, which `scripts/compare.sh` writes, and started runs that give no result."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record
from fdbpl.report.protocols import transfer_protocol
from fdbpl.report.runs import MALFORMED, Problem, Run, printable
from fdbpl.runs.results import shots_text

PLAN = "grid.json"
Tests = Mapping[str, list[Run]]  # of a training, by its path


@dataclass(frozen=True)
class Planned:
    """One cell of a grid: a trainer's configuration on a data set with a seed, in a protocol.

    Attributes:
        status: planned, done or failed, the latter for the given reason.
        each: key whose values are averaged over like seeds; empty = none.
    """

    protocol: str
    label: str
    trainer: str
    config: str
    dataset: str
    targets: tuple[str, ...]
    shots: int
    seed: int
    status: str
    reason: str
    each: str = ""

    @property
    def key(self) -> tuple:
        return (self.protocol, self.trainer, self.config, self.dataset, self.shots, self.seed)

    @property
    def row(self) -> tuple:
        """What the cells of one row on one data set have in common."""
        parts = [part for part in self.config.split("+") if not self.each or not part.startswith(f"{self.each}=")]
        return (self.protocol, self.label, "+".join(parts), self.dataset, self.shots)


@dataclass(frozen=True)
class Missing:
    """A missing result. `state` is planned, failed or unfinished; `key` is that of the planned cell, if any."""

    protocol: str
    what: str
    state: str
    reason: str
    key: tuple | None = None


def read_plan(output: Path) -> tuple[list[Planned], list[Problem]]:
    """Planned cells in their order, none without a grid.json, and the entries that cannot be read."""
    if not (output / PLAN).is_file():
        return [], []
    try:
        cells = read_record(output / PLAN, "the record of a grid", cells=list)["cells"]
    except (UserError, RecursionError) as error:
        return [], [Problem(PLAN, f"it is not the record of a grid ({error})")]
    planned, problems = [], []
    for number, cell in enumerate(cells):
        try:
            planned.append(_read_cell(cell))
        except MALFORMED as error:
            problems.append(Problem(PLAN, f"entry {number} is not a cell of a grid ({type(error).__name__}: {error})"))
    return planned, problems


def _read_cell(cell: dict) -> Planned:
    texts = {"label": cell["trainer"], "status": "planned", "reason": "", "each": ""}
    texts |= {name: value for name, value in cell.items() if name in texts and value}
    texts |= {name: cell[name] for name in ("protocol", "trainer", "config", "dataset")}
    targets = tuple(printable(str(target)) for target in cell.get("targets") or ())
    return Planned(
        **{name: printable(str(value)) for name, value in texts.items()},
        targets=targets,
        shots=int(cell["shots"]),
        seed=int(cell["seed"]),
    )


def find_missing(
    planned: list[Planned], values: Mapping[tuple, dict], trainings: list[Run], tests: Tests
) -> list[Missing]:
    """Planned cells without a result, in the plan's order, then runs that were started without a plan.

    Args:
        values: results of the experiments by column, by key of the planned cell.
        tests: of each training, by its path.
    """
    started = {
        (run.classes, run.trainer, run.config_name, run.dataset, run.shots, run.seed): run
        for run in trainings if run.exact
    }  # fmt: skip
    missing, explained = [], set()
    for cell in planned:
        run = started.get(("base" if cell.protocol == "base2new" else "all", *cell.key[1:]))
        found = values.get(cell.key, {})
        untested = [target for target in cell.targets if target not in found]
        if run:
            explained.add(run.path)
        if not found or untested:
            state, reason = _state(cell, run, tests.get(run.path, []) if run else [])
            if untested and run and run.finished:
                reason += f"; no test on {', '.join(untested)}"
            what = f"{cell.label}, {cell.dataset}, {shots_text(cell.shots)}, seed {cell.seed}"
            missing.append(Missing(cell.protocol, what, state, reason, cell.key))
    for run in trainings:
        if run.path not in explained:
            missing += _started(run, tests.get(run.path, []))
    return missing


def _state(cell: Planned, run: Run | None, tests: list[Run]) -> tuple[str, str]:
    """State and reason of a planned cell without a result."""
    if cell.status == "failed":
        return "failed", cell.reason or "failed without a message"
    if run is None:
        return "planned", "marked as done, but its run is not here" if cell.status == "done" else "not run yet"
    if not run.finished:
        return "unfinished", run.state
    return "unfinished", _test_state(tests) if cell.protocol.startswith("base2new") else "trained"


def _started(run: Run, tests: list[Run]) -> list[Missing]:
    """Missing results of a training that is not planned."""
    what = f"{run.trainer}, {run.dataset}, {shots_text(run.shots)}, seed {run.seed} ({run.path})"
    base = run.classes == "base"
    if not run.finished:
        return [Missing("base2new" if base else "few_shot", what, "unfinished", run.state)]
    if base and not any(test.finished and test.classes == "new" for test in tests):
        return [Missing("base2new", what, "unfinished", _test_state(tests))]
    missing = []
    for test in tests:
        if not test.finished and not base:
            same = test.dataset == run.dataset
            protocol = "base2new_all" if same else transfer_protocol(run.dataset, test.dataset)
            where = f"the {test.classes} classes" if same else test.dataset
            missing.append(Missing(protocol, f"{what}, tested on {where}", "unfinished", test.state))
    return missing


def _test_state(tests: list[Run]) -> str:
    states = [test.state for test in tests if test.classes == "new" and not test.finished]
    return states[0] if states else "trained, not tested on the new classes yet"
