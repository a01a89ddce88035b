"""Which experiments may stand in one table, and in which of its rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fdbpl.report.experiments import Experiment, Results, in_order
from fdbpl.report.runs import Run
from fdbpl.report.settings import conflicting, described, differing
from fdbpl.report.table import Cell, one_line

LOG_MARK = "†"


@dataclass(frozen=True)
class Group:
    """Experiments of a protocol that may stand in one table, by row."""

    protocol: str
    backbone: str
    shots: int
    drawn: bool
    rows: dict[str, list[Experiment]]
    wanted: dict[tuple[str, str], int]  # runs that were planned or begun, by row and data set

    @property
    def experiments(self) -> list[Experiment]:
        return [one for experiments in self.rows.values() for one in experiments]

    @property
    def datasets(self) -> list[str]:
        return in_order(one.train.dataset for one in self.experiments)

    def runs(self, name: str, dataset: str | None = None) -> Cell:
        """`3`, or `2 of 3`: finished of planned."""
        here = [one for one in self.rows[name] if dataset in (None, one.train.dataset)]
        wanted = sum(number for (row, where), number in self.wanted.items() if row == name and dataset in (None, where))
        count = len(here)
        text = str(count) if count >= wanted else f"{count} of {wanted}"
        return Cell(text, count, runs=tuple((one.train.path,) for one in here))


def is_drawn(dataset: str) -> bool:
    """Of the demo world, which says nothing of photographs."""
    return dataset == "demo" or dataset.startswith("demo_")


def groups(results: Results, protocol: str) -> list[Group]:
    """What may stand in one table: of one world, one student backbone, and one number of shots (few-shot: all)."""
    found: dict[tuple, list[Experiment]] = {}
    for one in results.of(protocol):
        run = one.train
        shots = 0 if protocol == "few_shot" else run.shots
        source = run.dataset if protocol in ("cross_dataset", "domain_generalization") else ""
        found.setdefault((is_drawn(run.dataset), source, run.backbone, shots), []).append(one)
    return [
        _group(protocol, key, experiments, results)
        for key, experiments in sorted(found.items(), key=lambda item: item[0])
    ]


def _group(protocol: str, key: tuple, experiments: list[Experiment], results: Results) -> Group:
    drawn, _, backbone, shots = key
    name = _names(experiments)
    rows: dict[str, list[Experiment]] = {}
    for one in experiments:
        rows.setdefault(name(one), []).append(one)
    wanted: dict[tuple[str, str], int] = {}
    for row, members in rows.items():
        for dataset in in_order(one.train.dataset for one in members):
            here = [one for one in members if one.train.dataset == dataset]
            wanted[row, dataset] = _wanted(protocol, here, results)
    return Group(protocol, backbone, shots, drawn, rows, wanted)


def _names(experiments: list[Experiment]) -> Callable[[Experiment], str]:
    """Names of rows: the label, with the settings that its command overrides, and those in which runs of one cell
    differ nevertheless; marked where of a log. Runs of a cell have one name if and only if their settings are equal."""
    shortest: dict[tuple, dict[str, Any]] = {}  # overrides by cell and setting: a file may say what another run typed
    for one in sorted(experiments, key=lambda one: -len(one.overrides)):
        shortest[_cell(one), one.digest] = one.overrides
    rows: dict[tuple, dict[tuple, list[Experiment]]] = {}  # by label and overrides, then by cell
    for one in experiments:
        row = (*_cell(one)[:2], described(shortest[_cell(one), one.digest]))
        rows.setdefault(row, {}).setdefault(_cell(one), []).append(one)
    apart: dict[tuple, set[str]] = {row: set() for row in rows}
    for row, cells in rows.items():
        for members in cells.values():
            apart[row].update(differing(one.settings for one in members), conflicting(one.facts for one in members))

    def name(one: Experiment) -> str:
        overrides = shortest[_cell(one), one.digest]
        keys = sorted(apart[(*_cell(one)[:2], described(overrides))])
        told = described(overrides | {key: (one.settings | one.facts).get(key) for key in keys})
        return one_line(one.label + (f" ({told})" if told else "")) + ("" if one.train.exact else f" {LOG_MARK}")

    return name


def _cell(one: Experiment) -> tuple:
    return (one.label, one.train.exact, one.train.dataset, one.train.shots)


def _wanted(protocol: str, members: list[Experiment], results: Results) -> int:
    """Runs of a row and data set that were planned, else begun."""
    cells = {(one.label, one.config, one.train.dataset, one.train.shots) for one in members}
    planned = [
        cell for cell in results.planned
        if cell.protocol == protocol and (cell.label, cell.row_config, cell.dataset, cell.shots) in cells
    ]  # fmt: skip
    if planned and members[0].train.exact:
        return len(planned)
    like = {_setting(one.train) for one in members}
    known = {one.train.path for one in results.of(protocol)} | {problem.path for problem in results.problems}
    begun = [run for run in results.runs if not run.tested and _setting(run) in like and run.path not in known]
    return len(members) + len(begun)


def _setting(run: Run) -> tuple:
    """What the runs of a cell share."""
    return (run.trainer, run.digest, run.dataset, run.shots, run.classes, run.backbone, run.exact)
