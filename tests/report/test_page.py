"""The page, and hostile names in the page and in the tables' files."""

import csv
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from fdbpl.report import page, write_report
from fdbpl.report.charts import learning_curves
from fdbpl.report.cost import bank_costs, break_evens
from fdbpl.report.formats import escape_latex, escape_markdown
from fdbpl.report.report import read_results

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOSTILE = '<script>alert(1)</script> & a|b_c 100% $x$ "q" {y} \\z\nnew'


class Text(HTMLParser):
    """Parser of a page: elements with their attributes, text outside styles and scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text, self._inside = "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("style", "script"):
            self.text += data


def page_of(tree, gallery=False) -> str:
    write_report(tree.output, gallery=gallery)
    return (tree.output / "report/report.html").read_text()


@pytest.fixture
def whole(tree):
    """Runs for every part of the page, with hostile names in all places."""
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 9, "runs": 1})
    log += "".join(f"epoch [{epoch}/9] batch [1/2] loss 1 ({epoch}) lr 0.1\n" for epoch in range(1, 10))
    for trainer in ("CoOp", "CoOp_KDPL", "FDBPL", HOSTILE):
        for seed in (1, 2):
            train = 30.0 if trainer == "CoOp_KDPL" else 10.0
            tree.pair(80.0 + seed, 60.0, trainer=trainer, seed=seed, log=log, seconds={"train": train})
            for shots in (1, 4):
                key = tree.run("train_all", trainer=trainer, classes="all", shots=shots, seed=seed, log=log)
            tree.run("evaluation/food101", trainer=trainer, dataset="food101", source="demo", classes="all", seed=seed,
                     shots=4, tests=key)  # fmt: skip
    tree.plan(trainer=HOSTILE, label=HOSTILE)
    tree.plan(trainer=HOSTILE, label=HOSTILE, seed=9, status="failed", reason=HOSTILE)
    tree.write("broken/run.json", "{<b>")
    return tree


@pytest.fixture
def region(monkeypatch):
    """A gallery of one region, without torch."""
    said = [(HOSTILE, 0.75), ("cat", 0.25)]
    one = page.Region("data:image/jpeg;base64,", HOSTILE, 0.5, said, said, [])
    found = [page.Gallery("demo", "run", [one], 9), page.Gallery("dtd", "run", reason=HOSTILE)]
    monkeypatch.setattr("fdbpl.report.gallery.make_galleries", lambda *_: found)


def test_names_are_text_in_the_page(whole, region):
    page = Text(page_of(whole, gallery=True))
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "b" not in {tag for tag, _ in page.elements}
    one_line = " ".join(HOSTILE.split())
    assert page.text.count(one_line) >= 5  # tables, legends, learning curves, missing
    assert page.text.count(HOSTILE) >= 3  # predictions of the region
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_names_are_text_in_the_tables_files(whole):
    write_report(whole.output, gallery=False)
    markdown, latex, table = ((whole.output / "report" / f"table.{kind}").read_text() for kind in ("md", "tex", "csv"))
    assert "<script" not in markdown and r"a\|b_c" in markdown
    for table_text in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table_text.splitlines()}
        assert len(widths) == 1  # the number of columns
    assert "<script" not in latex and r"100\% \$x\$" in latex and r"\textbackslash{}z new" in latex
    labels = {row["label"] for row in csv.DictReader(io.StringIO(table))}
    assert HOSTILE in labels


def test_escapes():
    assert escape_markdown("_a_b_ *c* <d> `e` [f](g)") == r"\_a_b\_ \*c\* &lt;d&gt; \`e\` \[f\](g)"
    assert escape_latex("a_b & 5 % {c} ~^\\ #$ <d> ± †") == (
        r"a\_b \& 5 \% \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{} \#\$ \textless{}d\textgreater{} "
        r"$\pm$ \dag{}"
    )


def test_the_page_is_self_contained(whole):
    page = page_of(whole)
    assert "http:" not in page and "https:" not in page and "//" not in re.sub(r"// [A-Z].*", "", page)
    for _, attributes in Text(page).elements:
        for name in ("src", "href", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:", "../")), attributes
    assert "@import" not in page and set(re.findall(r"url\((.)", page)) <= {"#"}


def test_ids_are_unique_and_references_resolve(whole):
    elements = Text(page_of(whole)).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {attributes["href"][1:] for _, attributes in elements if attributes.get("href", "").startswith("#")}
    clips = {attributes["clip-path"][5:-1] for _, attributes in elements if "clip-path" in attributes}
    assert used | clips <= set(ids)


def test_charts_use_the_colours_of_the_page(whole):
    page = page_of(whole)
    drawings = re.findall(r"<svg viewBox.*?</svg>", page, flags=re.DOTALL)
    assert len(drawings) > 10
    assert not any(re.search(r"#[0-9a-f]{6}", drawing) for drawing in drawings)
    assert all("var(--" in drawing for drawing in drawings)


def test_the_same_runs_give_the_same_bytes(whole):
    """Also in another process with another hash seed."""
    names = ("report.html", "table.md", "table.csv", "table.tex")
    files = [whole.output / "report" / name for name in names]
    write_report(whole.output, gallery=False)
    before = [file.read_bytes() for file in files]
    command = [sys.executable, "-m", "fdbpl.report", str(whole.output), "--no-gallery"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [file.read_bytes() for file in files] == before


def test_rows_link_to_their_run_folders(tree, tmp_path):
    tree.pair(80.0, 60.0)
    tree.run("", at="odd #1 é?", classes="all", accuracy=70.0)
    for folder in (tree.output / "report", tmp_path / "elsewhere"):
        write_report(tree.output, folder=folder, gallery=False)
        elements = Text((folder / "report.html").read_text()).elements
        links = {attributes["href"] for tag, attributes in elements if attributes.get("class") == "path" and tag == "a"}
        runs = {(folder / unquote(link)).resolve() for link in links}
        assert runs == {file.parent.resolve() for file in tree.output.rglob("run.json")}


def test_the_page_is_small(whole):
    assert len(page_of(whole)) < 600_000


def test_break_even_of_a_bank(tree):
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 0, "runs": 1})
    for trainer, seconds in (("FDBPL", (10.0, 14.0)), ("CoOp_KDPL", (40.0, 48.0)), ("FDBPL_MaPLe", (50.0, 50.0)),
                             ("MaPLe_KDPL", (50.0, 50.0))):  # fmt: skip
        for seed, train in zip((1, 2), seconds, strict=True):
            tree.pair(80.0, 60.0, trainer=trainer, seed=seed, log=log, seconds={"train": train})
    results = read_results(tree.output)
    found = {one.trainer: one for one in break_evens(results, bank_costs(tree.output, results))}
    assert found["FDBPL"].runs == 4  # 100 / (44 - 12) = 3.125
    assert found["FDBPL"].online == "CoOp_KDPL" and found["FDBPL"].setting == "base classes, 16 shots"
    assert found["FDBPL_MaPLe"].runs is None
    page = Text(page_of(tree)).text
    assert "4 runs" in page and "never: not faster" in page


def test_break_evens_are_grouped_by_settings(tree):
    """Runs of one configuration file differ in a setting that no folder name shows."""
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 0, "runs": 1})
    tree.run("train_all", trainer="CoOp_KDPL", classes="all", log=log, seconds={"train": 60.0})
    for seed, (size, seconds) in enumerate(((1, 10.0), (1, 20.0), (2, 40.0)), start=1):
        tree.run("train_all", trainer="FDBPL", classes="all", seed=seed, log=log, seconds={"train": seconds},
                 values={"DATALOADER.TRAIN_X.BATCH_SIZE": size})  # fmt: skip
    results = read_results(tree.output)
    found = sorted(one.seconds for one in break_evens(results, bank_costs(tree.output, results)))
    assert found == [15.0, 40.0]


@pytest.mark.parametrize(("cost", "words"), [(None, "was not timed"), ("{", "is broken"), ([], "is broken")])
def test_banks_without_a_generation_time(tree, cost, words):
    log = tree.bank(cost)
    for trainer in ("FDBPL", "CoOp_KDPL"):
        tree.pair(80.0, 60.0, trainer=trainer, log=log)
    assert words in Text(page_of(tree)).text


def test_learning_curves_cover_all_attempts(tree):
    tree.pair(80.0, 60.0, log=tree.epoch_lines(4, 4, loss=lambda epoch: 10.0 * epoch)[-400:])
    first = tree.epoch_lines(4, 3, loss=lambda epoch: float(epoch))
    tree.write("base2new/train_base/demo/shots_16/CoOp/demo/seed1/log.txt-2026-11-23-10-00-00", first)
    (curve,), _ = learning_curves(read_results(tree.output).trainings)
    assert curve[1] == 1.0 and curve[4] == 40.0  # from the first and from the last attempt


def test_gallery_without_a_bank(tree):
    tree.pair(80.0, 60.0, trainer="FDBPL")
    assert "No regions of demo: its region bank does not exist any more." in Text(page_of(tree, gallery=True)).text


def test_command_line_errors_are_one_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "fdbpl.report", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    absent = run(tmp_path / "absent")
    assert absent.returncode == 2 and absent.stderr.count("\n") == 1 and "absent" in absent.stderr
    empty = run(tmp_path)
    assert empty.returncode == 2 and empty.stderr.count("\n") == 1 and "only: nothing" in empty.stderr


def test_names_that_are_not_printable(tree, recwarn):
    """Lone surrogates, control characters and other scripts in records, plans and folder names."""
    odd = "\ud800\x00\x1b[31m \u4e2d\u6587"
    tree.pair(80.0, 60.0, trainer=odd, log=tree.bank({"seconds": 1.0, "regions": 1, "student_features": 0, "runs": 1}))
    tree.plan(trainer=odd, label=odd, status="failed", reason=odd, seed=2)
    folder = os.fsencode(tree.output) + b"/\xff\xfe"
    os.makedirs(folder)
    with open(folder + b"/run.json", "w") as file:
        file.write("{")
    page = page_of(tree)
    assert page.count("???[31m \u4e2d\u6587") >= 3 and "?" in (tree.output / "report/table.md").read_text()
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


def test_page_of_a_grid_without_runs(tree):
    tree.plan(status="planned")
    page = Text(page_of(tree)).text
    assert "Results of 0 runs" in page and "not run yet" in page


# browser -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if importlib.util.find_spec("websocket") is None:
        pytest.skip("websocket-client is not installed: pip install websocket-client")
    spec = importlib.util.spec_from_file_location("report_browser", HERE / "browser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    program = module.find()
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with module.Browser(program) as opened:
        yield opened


def test_browser_shows_the_page_without_errors_and_horizontal_scrolling(whole, region, browser):
    page_of(whole, gallery=True)
    file = whole.output / "report/report.html"
    backgrounds = set()
    for width in (375, 1280):
        for dark in (False, True):
            browser.open(file, width, dark)
            assert browser.errors == [] and browser.requests[0].endswith("report.html")
            assert all(address.startswith(("file:", "data:")) for address in browser.requests)
            browser.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            backgrounds.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert browser.evaluate("document.querySelectorAll('section').length") == 8
    assert len(backgrounds) == 2  # light and dark


def test_contrast_in_both_colour_schemes(whole, browser):
    """At least 4.5 : 1 for text and 3 : 1 for graphics (WCAG 2)."""
    page_of(whole)
    for dark in (False, True):
        browser.open(whole.output / "report/report.html", 1280, dark)
        names = ["paper", "canvas", "ink", "muted", "accent", "bad", "warn", "warn-soft"]
        names += [f"series-{number}" for number in range(8)]
        colours = json.loads(browser.evaluate(
            f"JSON.stringify(Object.fromEntries({json.dumps(names)}.map(name => "
            "[name, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()])))"
        ))  # fmt: skip
        for text in ("ink", "muted", "accent", "bad"):
            assert contrast(colours[text], colours["paper"]) >= 4.5, text
        assert contrast(colours["muted"], colours["canvas"]) >= 4.5
        assert contrast(colours["warn"], colours["warn-soft"]) >= 4.5
        for number in range(8):
            assert contrast(colours[f"series-{number}"], colours["paper"]) >= 3, number


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours #rrggbb (WCAG 2)."""

    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_tables_are_sorted_by_a_click(whole, browser):
    page_of(whole)
    browser.open(whole.output / "report/report.html", 1280, False)
    column = "[...document.querySelector('table').tBodies[0].rows].map(row => Number(row.cells[2].dataset.value))"
    browser.evaluate("document.querySelectorAll('table thead button')[1].click()")
    down = browser.evaluate(column)
    browser.evaluate("document.querySelectorAll('table thead button')[1].click()")
    assert down == sorted(down, reverse=True) and browser.evaluate(column) == sorted(down)
    assert browser.errors == []
