"""Planned runs, read from `grid.json`, which `scripts/compare.sh` writes."""

from dataclasses import dataclass
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record
from fdbpl.report.runs import Problem, printable

FILE = "grid.json"


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
    def row_config(self) -> str:
        """Name of the configuration without the override that is averaged over."""
        kept = [part for part in self.config.split("+") if not self.each or not part.startswith(f"{self.each}=")]
        return "+".join(kept)


def read_plan(output: Path) -> tuple[list[Planned], list[Problem]]:
    """Planned cells in their order, none without a grid.json, and the entries that cannot be read."""
    if not (output / FILE).is_file():
        return [], []
    try:
        cells = read_record(output / FILE, "the record of a grid", cells=list)["cells"]
    except (UserError, RecursionError) as error:
        return [], [Problem(FILE, f"it is not the record of a grid ({error})")]
    planned, problems = [], []
    for number, cell in enumerate(cells):
        try:
            planned.append(_planned(cell))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(Problem(FILE, f"entry {number} is not a cell of a grid ({type(error).__name__}: {error})"))
    return planned, problems


def _planned(cell: dict) -> Planned:
    def text(name: str, default: str = "") -> str:
        return printable(str(cell.get(name) or default))

    return Planned(
        **{name: printable(str(cell[name])) for name in ("protocol", "trainer", "config", "dataset")},
        label=text("label", str(cell["trainer"])),
        targets=tuple(printable(str(target)) for target in cell.get("targets") or ()),
        shots=int(cell["shots"]),
        seed=int(cell["seed"]),
        status=text("status", "planned"),
        reason=text("reason"),
        each=text("each").partition("=")[0],
    )
