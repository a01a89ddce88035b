"""One folder of runs -> table.md, table.csv, table.tex and report.html."""

from collections.abc import Collection
from pathlib import Path

from fdbpl.errors import MachineError, UserError
from fdbpl.io.atomic import write_bytes
from fdbpl.report.experiments import Results, put_together
from fdbpl.report.formats import csv_of, latex, markdown
from fdbpl.report.plan import read_plan
from fdbpl.report.runs import read_runs
from fdbpl.report.tables import sections


def write_report(
    output: Path,
    protocol: str | None = None,
    folder: Path | None = None,
    gallery: bool = True,
    cells: Collection[tuple] | None = None,
) -> str:
    """Write the report of all runs below `output`; the same runs give the same bytes.

    Args:
        protocol: of the tables that are returned; None = all. The files always have all.
        cells: keys of the planned cells (`Planned.key`) whose tables are returned; None = all.
        folder: of the report; None = `report` below `output`.
        gallery: cut regions for the page, which needs torch, the bank and the images.

    Returns:
        The tables as Markdown.

    Raises:
        UserError: no such folder, or no run below it.
        MachineError: a package is missing, or the report cannot be written.
    """
    output = Path(output)
    results = read_results(output)
    try:
        from fdbpl.report.page import page
    except ImportError as error:
        raise MachineError(
            f"expected matplotlib and jinja2 for the report, found {error}; run: pip install -r requirements.txt"
        ) from error

    tables = sections(results)
    folder = Path(folder) if folder else output / "report"
    for name, text in {
        "table.md": markdown(tables, results) + "\n",
        "table.csv": csv_of(results),
        "table.tex": latex(tables),
        "report.html": page(output, results, tables, folder, gallery),
    }.items():
        write_bytes(folder / name, text.encode("utf-8", "replace"))  # a record may hold halves of characters
    if cells is not None:
        results = results.of_cells(cells)
    return markdown(sections(results, protocol), results)


def read_results(output: Path) -> Results:
    """Everything below `output`.

    Raises:
        UserError: no such folder, or no run below it.
    """
    if not output.is_dir():
        raise UserError(f"expected the folder of the runs (OUTPUT) at {output}, found none; check the path")
    runs, problems = read_runs(output)
    planned, broken = read_plan(output)
    if not runs and not problems and not planned and not broken:
        there = sorted(entry.name for entry in output.iterdir())
        shown = ", ".join(there[:8]) + (" ..." if len(there) > 8 else "") if there else "nothing"
        raise UserError(
            f"expected runs below {output} (folders with run.json, or with a log.txt of Dassl), found none; there is "
            f"{shown}; give the OUTPUT of the scripts, or run one: bash scripts/base2new_train.sh"
        )
    return put_together(runs, problems + broken, planned)
