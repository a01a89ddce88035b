"""A table of results: lines of cells that know their number and its runs, before any format."""

from dataclasses import dataclass, field

from fdbpl.report.experiments import PROTOCOLS


@dataclass(frozen=True)
class Cell:
    """Text of a table, the number behind it and the runs behind that.

    Attributes:
        mark: best, second or nothing.
        runs: paths of what the number was computed from, a tuple for each value: one run, or of H base's and new's.
    """

    text: str
    value: float | None = None
    mark: str = ""
    runs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    name: str
    cells: list[Cell]
    published: bool = False

    @property
    def runs(self) -> list[str]:
        """Paths of all runs behind its numbers."""
        return list(dict.fromkeys(path for cell in self.cells for value in cell.runs for path in value))


@dataclass(frozen=True)
class Table:
    """One table; the first column, of the lines' names, has no header."""

    title: str
    header: tuple[str, ...]
    lines: list[Line]


@dataclass(frozen=True)
class Section:
    """The tables of a protocol in one setting.

    Attributes:
        setting: what all of its runs share, in words. notes: how to read the tables.
        drawn: of the demo world.
    """

    protocol: str
    setting: str
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    drawn: bool = False

    @property
    def title(self) -> str:
        return f"{PROTOCOLS[self.protocol]}: {self.setting}"


def one_line(text: str) -> str:
    return " ".join(text.split())
