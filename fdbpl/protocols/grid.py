"""A grid of runs: its cells are rows (a trainer with overrides) combined with seeds, variants and shots."""

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fdbpl.config import for_dataset, pairs, read_yaml, split_per_dataset, yaml_files
from fdbpl.errors import UserError
from fdbpl.protocols.checks import check_class_contexts, check_numbers, check_overrides, check_targets
from fdbpl.protocols.protocol import PROTOCOLS, Protocol, Step
from fdbpl.runs.folder import config_name

yaml_values = cache(read_yaml)


@dataclass(frozen=True)
class Row:
    """One row of a data set's table, which is run with every seed and variant.

    Attributes:
        dataset: its name in configs/datasets. own: the name of own images (`folder`) in run folders and results.
        targets: the data sets it is tested on where the protocol asks for some.
        config: the method's YAML.
    """

    dataset: str
    targets: tuple[str, ...]
    label: str
    trainer: str
    config: Path
    overrides: tuple[str, ...] = ()
    own: str = ""

    @property
    def name(self) -> str:
        """The name of the data set in run folders and results."""
        return self.own or self.dataset

    def overrides_of(self, *nodes: str) -> tuple[tuple[str, str], ...]:
        """The overrides whose keys begin with one of `nodes`."""
        pairs = zip(self.overrides[::2], self.overrides[1::2], strict=True)
        return tuple(sorted(pair for pair in pairs if pair[0].startswith(nodes)))


def variants(each: str) -> list[tuple[str, ...]]:
    """ "KEY=1,2" -> [("KEY", "1"), ("KEY", "2")]; nothing -> one empty variant."""
    if not each:
        return [()]
    key, equals, values = each.partition("=")
    if not equals or not values:
        raise UserError(f"EACH is {each!r}, but it must be KEY=VALUE,VALUE,..., e.g. DATASET.DEMO.CLASS_SPLIT=1,2")
    return [(key, value) for value in values.split(",")]


@dataclass(frozen=True)
class Cell:
    """A training and its tests: one call of a protocol's script.

    Attributes:
        overrides: those of the grid, of the variant and of the row, in this order.
    """

    protocol: Protocol
    output: Path
    row: Row
    shots: str
    seed: str
    overrides: tuple[str, ...]

    @property
    def config_name(self) -> str:
        return config_name(self.row.config.stem, list(self.overrides))

    @property
    def key(self) -> tuple:
        """Protocol, trainer, configuration, data set, shots, seed: its key in grid.json and in reports."""
        row = self.row
        return self.protocol.name, row.trainer, self.config_name, row.name, int(self.shots), int(self.seed)

    @property
    def run(self) -> str:
        """The part of the path that the folders of its runs share."""
        return f"{self.row.name}/shots_{self.shots}/{self.row.trainer}/{self.config_name}/seed{self.seed}"

    @property
    def steps(self) -> list[Step]:
        """Its calls of train.py; a finished training needs no region bank."""
        row = self.row
        steps = self.protocol.steps(row.dataset, self.run, row.targets, row.trainer.startswith("FDBPL"))
        return [step for step in steps if step.kind != "bank" or not (self.output / step.folder / "done.json").exists()]

    @property
    def folders(self) -> list[Path]:
        """The training's run folder, then the tests'."""
        return [self.output / step.folder for step in self.steps if step.kind != "bank"]

    @property
    def settings(self) -> dict[str, Any]:
        """Values by dotted key, from the YAML files and the overrides."""
        files = [Path("configs/datasets", f"{self.row.dataset}.yaml"), self.row.config]
        values: dict[str, Any] = {}
        special: dict[str, dict] = {}
        for file in filter(Path.is_file, files):
            general, special = split_per_dataset(yaml_values(str(file)), str(file))
            values.update(general)
        here = for_dataset(special, str(values.get("DATASET.NAME", "")), int(self.shots))
        return {**values, **here, **pairs(list(self.overrides))}

    def check(self) -> None:
        """Check the overrides, targets and contexts against the protocol.

        Raises:
            UserError: the protocol cannot use them.
        """
        row = self.row
        check_overrides(self.overrides)
        check_targets(row.dataset, row.targets)
        check_class_contexts(self.protocol.name, row.trainer, self.settings, row.dataset, row.targets)

    @property
    def finished(self) -> bool:
        """True if all runs are done and none is older than its training or than the YAML files.

        Otherwise, and for own images, which may have changed, the script is called: train.py compares the inputs.
        """
        if self.row.own:
            return False
        try:
            done = [os.stat(folder / "done.json").st_mtime_ns for folder in self.folders]
        except OSError:
            return False
        files = (self.row.config, Path("configs/datasets", f"{self.row.dataset}.yaml"))
        parts = [part for file in files if file.is_file() for part in yaml_files(file)]
        made_from = [os.stat(part).st_mtime_ns for part in parts]
        return max(made_from, default=0) <= done[0] == min(done)

    def call(self, script: str = "", **settings: str) -> list[str]:
        """The command that runs the cell, or another script with its settings."""
        variables = {"CFG": self.row.config.stem, "OUTPUT": str(self.output), "SHOTS": self.shots, **settings}
        if self.protocol.name == "base2new_all":
            variables["LEARN"] = "all"
        if self.row.targets and not script:
            variables["TARGETS"] = " ".join(self.row.targets)
        words = [f"{name}={value}" for name, value in variables.items()]
        script = f"scripts/{script or self.protocol.script}"
        return ["env", *words, "bash", script, self.row.dataset, self.seed, self.row.trainer, *self.overrides]


@dataclass(frozen=True)
class Grid:
    """A grid.

    Attributes:
        output: the scripts' OUTPUT. shots, seeds: of every row.
        common: overrides of every row. each: overrides to run through like seeds, see `variants`.

    Raises:
        UserError: a cell cannot be run.
    """

    protocol: str
    output: Path
    rows: Sequence[Row]
    seeds: Sequence[str]
    shots: Sequence[str] = ("16",)
    common: tuple[str, ...] = ()
    each: str = ""
    cells: list[Cell] = field(init=False)

    def __post_init__(self) -> None:
        check_numbers(self.seeds, self.shots)
        if self.protocol != "few_shot" and len(self.shots) != 1:
            raise UserError(f"SHOTS has {len(self.shots)} numbers, but {self.protocol} takes one, e.g. SHOTS=16")
        object.__setattr__(self, "cells", list(self._cells()))
        for cell in self.cells:
            cell.check()

    def _cells(self) -> Iterator[Cell]:
        """Cells in the order data set, seed, row, so that the table of the first seed is complete first."""
        datasets, shots = dict.fromkeys(row.dataset for row in self.rows), dict.fromkeys(self.shots)
        order = itertools.product(datasets, dict.fromkeys(self.seeds), variants(self.each), self.rows, shots)
        for dataset, seed, variant, row, number in order:
            if row.dataset == dataset:
                overrides = (*self.common, *variant, *row.overrides)
                yield Cell(PROTOCOLS[self.protocol], self.output, row, number, seed, overrides)


def banks(cells: Sequence[Cell]) -> list[list[str]]:
    """Calls that generate the region banks of `cells` once, before several runs at a time read them.

    Of the cells that need the same regions, teachers and words one generates them: FDBPL itself if it is among them,
    since its bank holds the student's features as well.
    """
    makers: dict[tuple, Cell] = {}
    for cell in cells:
        if cell.row.trainer.startswith("FDBPL"):
            shared = cell.overrides[: len(cell.overrides) - len(cell.row.overrides)]
            needed = cell.row.overrides_of("REGIONS.", "TEACHER.", "TRAINER.FDBPL.VOCABULARY")
            key = (cell.row.dataset, cell.seed, cell.shots, shared, needed)
            if key not in makers or (cell.row.trainer == "FDBPL" != makers[key].row.trainer):
                makers[key] = cell
    return [cell.call("generate_regions.sh", SUB=cell.protocol.classes) for cell in makers.values()]
