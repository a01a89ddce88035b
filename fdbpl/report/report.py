"""One folder of runs -> table.md, table.csv, table.tex and report.html."""

from collections.abc import Collection
from pathlib import Path

from fdbpl.errors import SystemFailure, UserError, quoted
from fdbpl.io.atomic import write_bytes
from fdbpl.report.experiments import Results, build_results
from fdbpl.report.missing import read_plan
from fdbpl.report.runs import read_runs


def write_report(
    output: Path,
    protocol: str | None = None,
    folder: Path | None = None,
    gallery: bool = True,
    cells: Collection[tuple] | None = None,
    reference: str = "",
) -> str:
    """Write the report of all runs below `output`; the same runs give the same bytes.

    Args:
        protocol: return the tables of this protocol only; the files always hold all tables.
        cells: return the tables of these planned cells only (`Planned.key`).
        reference: name of a row; further tables have the differences of the other rows from it.
        folder: of the report; None = `report` below `output`.
        gallery: show regions on the page, which needs torch, the region bank and the images.

    Returns:
        The tables as Markdown.

    Raises:
        UserError: the folder does not exist or holds no runs.
        SystemFailure: a package is missing, or the report cannot be written.
    """
    output = Path(output)
    results = read_results(output)
    try:  # here and not above: --help does not wait for these packages
        from fdbpl.report.classes import make_tested
        from fdbpl.report.formats import to_csv, to_latex, to_markdown
        from fdbpl.report.page import render_page
        from fdbpl.report.tables import make_sections

        if gallery:
            from fdbpl.report.gallery import make_galleries, make_thumbnails
    except ImportError as error:
        raise SystemFailure(
            f"The report needs pandas, matplotlib and jinja2, and its gallery needs the trainers ({error}). Run pip "
            "install -r requirements.txt, or leave the gallery out with --no-gallery"
        ) from error

    sections, tested = make_sections(results, reference), make_tested(results)
    galleries = make_galleries(output, results) if gallery else None
    thumbnails = make_thumbnails(tested) if gallery else {}
    folder = Path(folder) if folder else output / "report"
    for name, text in {
        "table.md": to_markdown(sections, results),
        "table.csv": to_csv(results),
        "table.tex": to_latex(sections),
        "report.html": render_page(output, results, sections, tested, folder, galleries, thumbnails),
    }.items():
        write_bytes(folder / name, text.encode("utf-8", "replace"))  # names may hold lone surrogates
    if cells is not None:
        results = results.of_cells(cells)
        sections = make_sections(results, reference)
    asked = [section for section in sections if protocol in (None, section.protocol)]
    names = [row.name for section in asked for table in section.tables for row in table.rows]
    if reference and not any(name == reference or name.startswith(f"{reference} (") for name in names):
        found = ", ".join(dict.fromkeys(names))
        raise UserError(f"The tables have no row {quoted(reference)}. The rows are {found or 'none'}")
    return to_markdown(asked, results).rstrip()


def read_results(output: Path) -> Results:
    """Results of all runs below `output`.

    Raises:
        UserError: the folder does not exist or holds no runs.
    """
    if not output.is_dir():
        raise UserError(f"There is no folder {output}. Check the path: it is the OUTPUT of the scripts.")
    runs, problems = read_runs(output)
    planned, broken = read_plan(output)
    if not runs and not problems and not planned and not broken:
        names = sorted(entry.name for entry in output.iterdir())
        found = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") or "nothing"
        raise UserError(
            f"There are no runs below {output} (folders with run.json, or with a log.txt of Dassl), only: {found}. "
            "Give the OUTPUT of the scripts, or start a run: bash scripts/base2new_train.sh"
        )
    return build_results(runs, problems + broken, planned)
