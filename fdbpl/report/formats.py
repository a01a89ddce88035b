"""The tables as Markdown, LaTeX and CSV. Names are others' text: each format escapes what would be its own."""

import csv
import io
import math
import re

from fdbpl.report.experiments import Results
from fdbpl.report.runs import Run
from fdbpl.report.settings import described
from fdbpl.report.table import Cell, Section, Table, one_line

CSV_COLUMNS = (
    "label", "trainer", "config", "overrides", "settings", "trained_on", "tested_on", "classes", "shots", "seed",
    "backbone", "task", "state", "accuracy", "error_rate", "macro_f1", "H", "precision", "learnt", "steps",
    "processes", "train_images", "test_images", "left_out", "seconds_build", "seconds_prepare", "seconds_train",
    "seconds_step", "seconds_test", "seconds_total", "mib_host", "folder",
)  # fmt: skip


# Markdown ----------------------------------------------------------------------------------------------------------


def markdown(sections: list[Section], results: Results) -> str:
    """All tables, then what is missing and what could not be read."""
    parts = []
    for section in sections:
        parts.append(f"## {escape_markdown(section.title)}")
        if section.drawn:
            parts.append("A drawn world: these figures say nothing of photographs.")
        for table in section.tables:
            parts += [f"### {escape_markdown(table.title)}", markdown_table(table)]
        parts.append("\n".join(f"* {escape_markdown(note)}" for note in section.notes))
    if not sections:
        parts.append("No finished experiment to show.")
    for title, entries in (
        ("Missing", [(one.what, f"{one.state}: {one.reason}" if one.reason else one.state) for one in results.missing]),
        ("Not read", [(one.path, one.reason) for one in results.problems]),
    ):
        if entries:
            parts.append(f"## {title}")
            parts.append("\n".join(f"* {escape_markdown(what)}: {escape_markdown(why)}" for what, why in entries))
    return "\n\n".join(parts)


def markdown_table(table: Table) -> str:
    header = ["", *map(escape_markdown, table.header[1:])]
    lines = [header, ["---"] * len(header)]
    lines += [[escape_markdown(line.name), *map(_markdown_cell, line.cells)] for line in table.lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _markdown_cell(cell: Cell) -> str:
    return {"best": "**{}**", "second": "_{}_", "": "{}"}[cell.mark].format(cell.text)


def escape_markdown(text: str) -> str:
    """`_` inside a word means nothing to Markdown and stays."""
    text = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]$~])", r"\\\1", text)
    return re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)


# LaTeX -------------------------------------------------------------------------------------------------------------

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "†": r"\dag{}",
}  # fmt: skip


def latex(sections: list[Section]) -> str:
    """A table environment for each table; needs booktabs and, for wide ones, graphicx."""
    parts = ["% \\usepackage{booktabs, graphicx}"]
    for section in sections:
        for table in section.tables:
            caption = f"{section.title}. {table.title}. {' '.join(section.notes)}"
            rows = [["", *map(escape_latex, table.header[1:])]]
            rows += [[escape_latex(line.name), *map(_latex_cell, line.cells)] for line in table.lines]
            first, *others = [f"{' & '.join(cells)} \\\\" for cells in rows]
            parts.append(
                "\\begin{table}\n\\centering\n"
                f"\\caption{{{escape_latex(caption)}}}\n\\resizebox{{\\linewidth}}{{!}}{{%\n"
                f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}\n\\toprule\n{first}\n\\midrule\n"
                + "\n".join(others)
                + "\n\\bottomrule\n\\end{tabular}}\n\\end{table}"
            )
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in one_line(text))


def _latex_cell(cell: Cell) -> str:
    form = {"best": "\\textbf{{{}}}", "second": "\\underline{{{}}}", "": "{}"}[cell.mark]
    return form.format(escape_latex(cell.text))


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet would compute

# CSV ---------------------------------------------------------------------------------------------------------------


def csv_of(results: Results) -> str:
    """One row a run, finished or not; numbers at full precision."""
    trained, labels, h = _trained(results), {}, {}
    for one in results.experiments:
        for run in (one.train, *one.tests.values()):
            labels.setdefault(run.path, one.label)
        if one.protocol in ("base2new", "base2new_all"):
            h[one.tests["new"].path] = one.values["H"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for run in results.runs:
        train = trained.get(run.path, run)
        writer.writerow(
            no_formula(cell) for cell in [
                labels.get(run.path, run.trainer), run.trainer, train.config, described(run.overrides), run.digest,
                train.dataset, run.dataset, run.classes, train.shots, run.seed, run.backbone,
                "test" if run.tested else "train", f"unfinished: {run.state}" if run.state else "finished",
                "" if run.accuracy is None else repr(run.accuracy), _repr(run.number("error_rate")),
                _repr(run.number("macro_f1")), repr(h[run.path]) if run.path in h else "",
                "full" if run.exact else "as printed in the log",
                *(_repr(run.number(name)) for name in ("parameters", "steps", "processes")),
                *(number or "" for number in (run.train_images, run.test_images, run.left_out)),
                *(_repr(run.seconds(stage)) for stage in ("build", "prepare", "train", "step", "test", "total")),
                _repr(run.memory()), run.path,
            ]
        )  # fmt: skip
    return text.getvalue()


def no_formula(cell: object) -> object:
    """A name that a spreadsheet would take for a formula, quoted by an apostrophe as spreadsheets do it."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _trained(results: Results) -> dict[str, Run]:
    """The training that each test is of, by the test's path."""
    return {run.path: one.train for one in results.experiments for run in one.tests.values()}


def _repr(value: float) -> str:
    if value != value:  # nan: not recorded
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
