"""The plan of a grid (DRY_RUN=1): counts, commands, and weights that are missing here."""

import shlex

from fdbpl.protocols.grid import Cell, Grid, banks
from fdbpl.runs.results import counted


def plan(grid: Grid) -> str:
    """Lines: a summary, the missing weights, then `done` or `to do` and the command of each cell."""
    cells = [(cell, cell.finished) for cell in grid.cells]
    to_do = [cell for cell, finished in cells if not finished]
    makers = banks(to_do)
    summary = (
        f"{grid.protocol}: {counted(len(cells), 'run')} ({counted(len(grid.rows), 'row')}, data sets "
        f"{' '.join(dict.fromkeys(row.name for row in grid.rows))}, seeds {' '.join(grid.seeds)}, shots "
        f"{' '.join(grid.shots)}), {len(cells) - len(to_do)} done, {len(to_do)} to do"
    )
    lines = [summary + f", before them {counted(len(makers), 'call')} of generate_regions.sh" * bool(makers)]
    missing = missing_weights(to_do)
    lines += [f"missing weights, loaded on first use: {', '.join(missing)}"] * bool(missing)
    lines += [f"  {'done ' if finished else 'to do'} {shlex.join(cell.call()[1:])}" for cell, finished in cells]
    return "\n".join(lines)


def missing_weights(cells: list[Cell]) -> list[str]:
    """Names of the students' and teachers' weights that `cells` need and that are not on this machine."""
    from fdbpl.backbones import weights_available

    names: dict[str, None] = {}
    for cell in cells:
        settings = cell.settings
        names[settings["MODEL.BACKBONE.NAME"]] = None
        if cell.row.trainer.startswith(("FDBPL", "PromptKD")) or cell.row.trainer.endswith("_KDPL"):
            names[settings["TEACHER.NAME"]] = None
            names[settings.get("TEACHER.SECOND.NAME", "")] = None
    return [name for name in names if name and not name.startswith("run:") and not weights_available(name)]
