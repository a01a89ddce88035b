"""Spreadsheet formulas in names are text in a report's CSV table; tests/report checks the page, LaTeX and Markdown."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fdbpl.report.__main__ as report
from fdbpl.report.formats import FORMULA, no_formula

from ..bad_input.calls import succeeds
from ..report.conftest import tree  # noqa: F401

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")', "\t=1", "\r=1"]


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas_in_names_are_quoted(tree, tmp_path, name):  # noqa: F811
    tree.run("base2new/train_base", trainer="CoOp", backbone=name, classes=name, accuracy=80.0)
    tree.plan(label=name, reason=name, status="failed", seed=2)
    succeeds(report.main, [tree.output, "--to", tmp_path / "report", "--no-gallery"])
    rows = list(csv.reader(io.StringIO((tmp_path / "report" / "table.csv").read_text())))
    assert len(rows) == 2 and sum(name[1:] in cell for cell in rows[1]) >= 2
    assert not [cell for cell in rows[1] if cell.startswith(FORMULA)]


@given(st.text(min_size=1))
def test_quoting_keeps_the_text(text):
    cell = no_formula(text)
    assert cell in (text, f"'{text}")
    assert not cell.startswith(FORMULA) or float(cell) == float(text)


@pytest.mark.parametrize("number", [-1, 0.5, "-1", "-0.5", "1e-05", ""])
def test_numbers_are_not_quoted(number):
    assert no_formula(number) == number
