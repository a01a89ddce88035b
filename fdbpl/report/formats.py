"""Tables as Markdown, LaTeX and CSV. Each format escapes names, which come from outside and may hold its own syntax."""

import math
import re

import jinja2
import pandas as pd

from fdbpl.report.experiments import Results
from fdbpl.report.tables import Section
from fdbpl.runs.results import shots_text

LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "±": r"$\pm$", "†": r"\dag{}", "↓": r"$\downarrow$",
})  # fmt: skip
CSV_COLUMNS = [
    "label", "trainer", "config", "overrides", "settings", "trained_on", "tested_on", "classes", "shots", "seed",
    "backbone", "epochs", "task", "state", "accuracy", "error_rate", "macro_f1", "balanced_accuracy", "ece",
    "adaptive_ece", "brier", "nll", "H", "precision", "parameters", "steps", "processes", "train_images", "test_images",
    "left_out", "seconds_build", "seconds_prepare", "seconds_train", "seconds_step", "seconds_test", "seconds_total",
    "mib_host", "folder",
]  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # first characters of what a spreadsheet computes


def template(name: str) -> jinja2.Template:
    """A template of the folder `template`; that of the page escapes every text, in the others filters do."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fdbpl.report", "template"),
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"md": escape_markdown, "tex": escape_latex, "shots": shots_text}
    return environment.get_template(name)


def to_markdown(sections: list[Section], results: Results) -> str:
    """All tables, then the missing results and the folders that give none."""
    text = template("table.md").render(sections=sections, missing=results.missing, problems=results.problems)
    return text.strip() + "\n"


def to_latex(sections: list[Section]) -> str:
    """A table environment for each table; needs booktabs and, for wide tables, graphicx."""
    return template("table.tex").render(sections=sections).strip() + "\n"


def escape_markdown(text: str) -> str:
    """Escape Markdown and HTML; `_` inside a word has no meaning in Markdown and stays."""
    text = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]$~])", r"\\\1", text)
    return re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)


def escape_latex(text: str) -> str:
    return _one_line(text).translate(LATEX)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def to_csv(results: Results) -> str:
    """One line for each run, finished or not, with numbers at full precision."""
    labels, trainings, scores = {}, {}, {}
    for one in results.experiments:
        for run in (one.train, *one.tests.values()):
            labels.setdefault(run.path, one.label)
            trainings[run.path] = one.train
        if "H" in one.values:
            scores[one.tests["new"].path] = one.values["H"]
    rows = []
    for run in results.runs:
        train = trainings.get(run.path, run)
        more = {
            "label": labels.get(run.path, run.trainer),
            "config": train.config_name,
            "trained_on": train.dataset,
            "tested_on": run.dataset,
            "shots": train.shots,
            "task": "test" if run.tested else "train",
            "state": f"unfinished: {run.state}" if run.state else "finished",
            "H": scores.get(run.path),
            "precision": "full" if run.exact else "as printed in the log",
        }
        rows.append({name: no_formula(value) for name, value in (run.as_row() | more).items()})
    frame = pd.DataFrame(rows, columns=CSV_COLUMNS).convert_dtypes()
    return frame.to_csv(index=False, lineterminator="\n")


def no_formula(cell: object) -> object:
    """Quote, by an apostrophe, a text that a spreadsheet would take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) and not _is_number(cell) else cell


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
