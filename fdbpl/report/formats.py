"""Tables as Markdown, LaTeX and CSV. Each format escapes names, which come from outside and may hold its own syntax."""

import math
import re

import pandas as pd

from fdbpl.report.experiments import Results
from fdbpl.report.tables import Section, Table, TableCell


def _one_line(text: str) -> str:
    return " ".join(text.split())


# Markdown ----------------------------------------------------------------------------------------------------------


def markdown(sections: list[Section], results: Results) -> str:
    """All tables, then the missing results and the folders that give none."""
    parts = []
    for section in sections:
        parts.append(f"## {escape_markdown(section.title)}")
        if section.synthetic:
            parts.append("Synthetic demo images: these numbers say nothing about photographs.")
        for table in section.tables:
            parts += [f"### {escape_markdown(table.title)}", _markdown_table(table)]
        parts.append("\n".join(f"* {escape_markdown(note)}" for note in section.notes))
    if not sections:
        parts.append("There is no finished experiment.")
    missing = [(one.what, f"{one.state}: {one.reason}" if one.reason else one.state) for one in results.missing]
    problems = [(one.path, one.reason) for one in results.problems]
    for title, entries in (("Missing", missing), ("Not in the tables", problems)):
        if entries:
            parts.append(f"## {title}")
            parts.append("\n".join(f"* {escape_markdown(what)}: {escape_markdown(why)}" for what, why in entries))
    return "\n\n".join(parts)


def _markdown_table(table: Table) -> str:
    lines = [["", *map(escape_markdown, table.columns)], ["---"] * (1 + len(table.columns))]
    lines += [[escape_markdown(row.name), *map(_markdown_cell, row.cells)] for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _markdown_cell(cell: TableCell) -> str:
    return {"best": "**{}**", "second": "_{}_", "": "{}"}[cell.mark].format(cell.text)


def escape_markdown(text: str) -> str:
    """Escape Markdown and HTML; `_` inside a word has no meaning in Markdown and stays."""
    text = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]$~])", r"\\\1", text)
    return re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)


# LaTeX -------------------------------------------------------------------------------------------------------------

LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "†": r"\dag{}",
})  # fmt: skip
LATEX_TABLE = r"""\begin{{table}}
\centering
\caption{{{caption}}}
\resizebox{{\linewidth}}{{!}}{{%
\begin{{tabular}}{{l{columns}}}
\toprule
{head}
\midrule
{body}
\bottomrule
\end{{tabular}}}}
\end{{table}}"""


def latex(sections: list[Section]) -> str:
    """A table environment for each table; needs booktabs and, for wide tables, graphicx."""
    parts = ["% \\usepackage{booktabs, graphicx}"]
    for section in sections:
        for table in section.tables:
            caption = escape_latex(f"{section.title}. {table.title}. {' '.join(section.notes)}")
            rows = [["", *map(escape_latex, table.columns)]]
            rows += [[escape_latex(row.name), *map(_latex_cell, row.cells)] for row in table.rows]
            head, *body = [f"{' & '.join(cells)} \\\\" for cells in rows]
            columns = "r" * len(table.columns)
            parts.append(LATEX_TABLE.format(caption=caption, columns=columns, head=head, body="\n".join(body)))
    return "\n\n".join(parts) + "\n"


def escape_latex(text: str) -> str:
    return _one_line(text).translate(LATEX)


def _latex_cell(cell: TableCell) -> str:
    form = {"best": "\\textbf{{{}}}", "second": "\\underline{{{}}}", "": "{}"}[cell.mark]
    return form.format(escape_latex(cell.text))


# CSV ---------------------------------------------------------------------------------------------------------------

CSV_COLUMNS = [
    "label", "trainer", "config", "overrides", "settings", "trained_on", "tested_on", "classes", "shots", "seed",
    "backbone", "epochs", "task", "state", "accuracy", "error_rate", "macro_f1", "H", "precision", "parameters",
    "steps", "processes", "train_images", "test_images", "left_out", "seconds_build", "seconds_prepare",
    "seconds_train", "seconds_step", "seconds_test", "seconds_total", "mib_host", "folder",
]  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of what a spreadsheet computes


def to_csv(results: Results) -> str:
    """One line for each run, finished or not, with numbers at full precision."""
    trainings, labels, scores = {}, {}, {}
    for one in results.experiments:
        for run in (one.train, *one.tests.values()):
            labels.setdefault(run.path, one.label)
            if run is not one.train:
                trainings[run.path] = one.train
        if "H" in one.values:
            scores[one.tests["new"].path] = one.values["H"]
    rows = []
    for run in results.runs:
        train = trainings.get(run.path, run)
        row = run.as_row() | {
            "label": labels.get(run.path, run.trainer),
            "config": train.config,
            "trained_on": train.dataset,
            "tested_on": run.dataset,
            "shots": train.shots,
            "task": "test" if run.tested else "train",
            "state": f"unfinished: {run.state}" if run.state else "finished",
            "H": scores.get(run.path),
            "precision": "full" if run.exact else "as printed in the log",
        }
        rows.append({name: _whole(no_formula(row[name])) for name in CSV_COLUMNS})
    return pd.DataFrame(rows, columns=CSV_COLUMNS, dtype=object).to_csv(index=False, lineterminator="\n")


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def no_formula(cell: object) -> object:
    """Quote, by an apostrophe, a text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
