"""What was to be run: `grid.json`, which `scripts/compare.sh` keeps beside the runs."""

from dataclasses import dataclass
from pathlib import Path

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json
from fdbpl.report.runs import Problem, printable

FILE = "grid.json"


@dataclass(frozen=True)
class Planned:
    """One cell of a grid: a trainer's configuration on a data set with a seed, in a protocol.

    `each` is the key whose values the grid runs through and averages over as over seeds; "" = none.
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
        """The configuration's name less the override that is averaged over."""
        kept = [part for part in self.config.split("+") if not self.each or not part.startswith(f"{self.each}=")]
        return "+".join(kept)


def read_plan(output: Path) -> tuple[list[Planned], list[Problem]]:
    """The planned cells in their order; none where no grid was ever started."""
    file = output / FILE
    if not file.is_file():
        return [], []
    try:
        cells = read_json(file, "the plan of a grid")["cells"]
        if not isinstance(cells, list):
            raise TypeError(f"cells is a {type(cells).__name__}")
    except (UserError, KeyError, TypeError, RecursionError) as error:
        return [], [Problem(FILE, f"expected the plan of a grid, found something else ({error})")]
    planned, problems = [], []
    for number, cell in enumerate(cells):
        try:
            planned.append(
                Planned(
                    protocol=printable(str(cell["protocol"])),
                    label=printable(str(cell.get("label") or cell["trainer"])),
                    trainer=printable(str(cell["trainer"])),
                    config=printable(str(cell["config"])),
                    dataset=printable(str(cell["dataset"])),
                    targets=tuple(printable(str(target)) for target in cell.get("targets") or ()),
                    shots=int(cell["shots"]),
                    seed=int(cell["seed"]),
                    status=printable(str(cell.get("status", "planned"))),
                    reason=printable(str(cell.get("reason") or "")),
                    each=printable(str(cell.get("each") or "")).partition("=")[0],
                )
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            problems.append(Problem(FILE, f"cell {number} is no cell of a grid ({type(error).__name__}: {error})"))
    return planned, problems
