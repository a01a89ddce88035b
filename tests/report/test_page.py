"""The page, and hostile names in the page and in the tables' files."""

import csv
import io
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
from fdbpl.report.data import DataSet, datasets_of
from fdbpl.report.formats import escape_latex, escape_markdown
from fdbpl.report.report import read_results

from .conftest import Tree

ROOT = Path(__file__).parents[2]
HOSTILE = '<script>alert(1)</script> & a|b_c 100% $x$ "q" {y} \\z\nnew'
FILES = ("report.html", "table.md", "table.csv", "table.tex")


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Report of runs for every part of the page, with hostile names in all places and a gallery of one region."""
    tree = Tree(tmp_path_factory.mktemp("whole") / "output")
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
    for path in sorted(tree.output.glob("base2new/*/demo/*/*/demo/seed*")):
        folder = path.relative_to(tree.output)
        tree.predictions(folder, [0, 1, 2, 1])
        tree.write(f"{folder}/predictions.csv", f"path,label,prediction,cat,dog\na.jpg,cat,{HOSTILE[:8]},0.1,0.9\n")
    tree.plan(trainer=HOSTILE, label=HOSTILE)
    tree.plan(trainer=HOSTILE, label=HOSTILE, seed=9, status="failed", reason=HOSTILE)
    tree.write("broken/run.json", "{<b>")
    predictions = [(HOSTILE, 0.75), ("cat", 0.25)]
    region = page.Region("data:image/jpeg;base64,", HOSTILE, 0.5, predictions, predictions, [])
    galleries = [page.Gallery("demo", "run", [region], 9), page.Gallery("dtd", "run", reason=HOSTILE)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fdbpl.report.gallery.make_galleries", lambda *_: galleries)
        write_report(tree.output)
    return tree.output / "report"


@pytest.fixture(scope="module")
def html(whole) -> str:
    return (whole / "report.html").read_text()


def test_names_are_text_in_the_page(html):
    page = Text(html)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert "b" not in {tag for tag, _ in page.elements}
    assert page.text.count(" ".join(HOSTILE.split())) >= 5  # tables, legends, learning curves, missing
    assert page.text.count(HOSTILE) >= 3  # predictions of the region
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_names_are_text_in_the_tables_files(whole):
    markdown, latex, table = ((whole / f"table.{kind}").read_text() for kind in ("md", "tex", "csv"))
    assert "<script" not in markdown and r"a\|b_c" in markdown
    for table_text in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table_text.splitlines()}
        assert len(widths) == 1  # the number of columns
    assert "<script" not in latex and r"100\% \$x\$" in latex and r"\textbackslash{}z new" in latex
    assert HOSTILE in {row["label"] for row in csv.DictReader(io.StringIO(table))}


def test_escapes():
    assert escape_markdown("_a_b_ *c* <d> `e` [f](g)") == r"\_a_b\_ \*c\* &lt;d&gt; \`e\` \[f\](g)"
    assert escape_latex("a_b & 5 % {c} ~^\\ #$ <d> ± †") == (
        r"a\_b \& 5 \% \{c\} \textasciitilde{}\textasciicircum{}\textbackslash{} \#\$ \textless{}d\textgreater{} "
        r"$\pm$ \dag{}"
    )


def test_the_page_is_small_and_self_contained(html):
    assert len(html) < 600_000
    html = re.sub(r"data:image/\w+;base64,[\w+/=\n]*", "data:", html)
    assert "http:" not in html and "https:" not in html and "//" not in re.sub(r"// [A-Z].*", "", html)
    for _, attributes in Text(html).elements:
        for name in ("src", "href", "action", "data", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:", "../")), attributes
    assert "@import" not in html and set(re.findall(r"url\((.)", html)) <= {"#"}


def test_ids_are_unique_and_references_resolve(html):
    elements = Text(html).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {attributes["href"][1:] for _, attributes in elements if attributes.get("href", "").startswith("#")}
    clips = {attributes["clip-path"][5:-1] for _, attributes in elements if "clip-path" in attributes}
    assert used | clips <= set(ids)


def test_charts_use_the_colours_of_the_page(html):
    drawings = re.findall(r"<svg viewBox.*?</svg>", html, flags=re.DOTALL)
    assert len(drawings) > 10
    assert not any(re.search(r"#[0-9a-f]{6}", drawing) for drawing in drawings)
    assert all("var(--" in drawing for drawing in drawings)


def test_the_same_runs_give_the_same_bytes(whole, tmp_path):
    """Also in another process with another hash seed."""
    write_report(whole.parent, folder=tmp_path, gallery=False)
    before = [(tmp_path / name).read_bytes() for name in FILES]
    command = [sys.executable, "-m", "fdbpl.report", str(whole.parent), "--no-gallery", "--to", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / name).read_bytes() for name in FILES] == before


def test_rows_link_to_their_run_folders(tree, tmp_path):
    tree.pair(80.0, 60.0)
    tree.run("", at="odd #1 é?", classes="all", accuracy=70.0)
    for folder in (tree.output / "report", tmp_path / "elsewhere"):
        write_report(tree.output, folder=folder, gallery=False)
        elements = Text((folder / "report.html").read_text()).elements
        links = {attributes["href"] for tag, attributes in elements if attributes.get("class") == "path" and tag == "a"}
        runs = {(folder / unquote(link)).resolve() for link in links}
        assert runs == {file.parent.resolve() for file in tree.output.rglob("run.json")}


def test_data_sets_of_the_runs(tree):
    names = {"classnames": ["cat", "<dog>"], "template": "a photo of a {}.", "train_images": 8, "test_images": 40}
    more = {"protocol": names, "tested": {"sha256": "0123456789ab"}}
    tree.run("train_all", classes="all", shots=4, left_out={"count": 1, "images": {"a/b.jpg": "truncated"}}, **more)
    log = "  skipped: 2 no images (a.txt, b.txt)\n"
    tree.run("train_all", classes="all", shots=4, seed=2, log=log, values={"DATASET.NAME": "Folder"}, **more)
    tree.run("train_all", classes="all", shots=2, **(more | {"protocol": names | {"train_images": 4}}))
    (found,) = datasets_of(read_results(tree.output).runs)
    assert found == DataSet("demo", "all", ["cat", "<dog>"], "a photo of a {}.", {2: [4], 4: [8]}, 40, "01234567",
                            {"a/b.jpg": "truncated"}, "2 no images (a.txt, b.txt)")  # fmt: skip
    text = " ".join(Text(page_of(tree)).text.split())
    assert "4 (2 shots), 8 (4 shots)40" in text and "cat, <dog>" in text and "a/b.jpg: truncated" in text
    assert "Skipped files: 2 no images (a.txt, b.txt)" in text


def test_settings_of_the_tables(tree):
    tree.run("train_all", classes="all", config="demo+OPTIM.LR=1", values={"INPUT.SIZE": 9})
    text = " ".join(Text(page_of(tree)).text.split())
    assert "demo+OPTIM.LR=1, digest of settings " in text and "INPUT.SIZE=9" in text


def break_evens_of(tree) -> list[dict]:
    results = read_results(tree.output)
    return break_evens(results, bank_costs(tree.output, results)).to_dict("records")


def test_break_even_of_a_bank(tree):
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 0, "runs": 1})
    for trainer, seconds in (("FDBPL", (10.0, 14.0)), ("CoOp_KDPL", (40.0, 48.0)), ("FDBPL_MaPLe", (50.0, 50.0)),
                             ("MaPLe_KDPL", (50.0, 50.0))):  # fmt: skip
        for seed, train in zip((1, 2), seconds, strict=True):
            tree.pair(80.0, 60.0, trainer=trainer, seed=seed, log=log, seconds={"train": train})
    first, second = break_evens_of(tree)
    assert (first["name"], first["name_online"], first["runs"]) == ("FDBPL", "CoOp_KDPL", 4)  # 100 / (44 - 12) = 3.125
    assert second["name"] == "FDBPL_MaPLe" and not second["runs"] > 0
    text = Text(page_of(tree)).text
    assert "4 runs" in text and "never: not faster" in text and "base classes, 16 shots" in text


def test_the_generation_of_both_banks_counts(tree):
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 0, "runs": 1})
    tree.write("regions/demo/second/manifest.json", {"identity": {"schema": 1}})
    tree.write("regions/demo/second/cost.json", {"seconds": 60.0, "regions": 9, "student_features": 0, "runs": 1})
    log += "Region bank of the second teacher: /moved/since/regions/demo/second (teacher looked up)\n"
    for trainer, seconds in (("FDBPL", 12.0), ("CoOp_KDPL", 44.0)):
        tree.pair(80.0, 60.0, trainer=trainer, log=log, seconds={"train": seconds})
    assert [one["runs"] for one in break_evens_of(tree)] == [5]  # 160 / (44 - 12)


def test_break_evens_are_grouped_by_settings(tree):
    """Runs of one configuration file differ in a setting that no folder name shows."""
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 0, "runs": 1})
    tree.run("train_all", trainer="CoOp_KDPL", classes="all", log=log, seconds={"train": 60.0})
    for seed, (size, seconds) in enumerate(((1, 10.0), (1, 20.0), (2, 40.0)), start=1):
        tree.run("train_all", trainer="FDBPL", classes="all", seed=seed, log=log, seconds={"train": seconds},
                 values={"DATALOADER.TRAIN_X.BATCH_SIZE": size})  # fmt: skip
    assert sorted(one["seconds"] for one in break_evens_of(tree)) == [15.0, 40.0]


@pytest.mark.parametrize(("cost", "words"), [(None, "was not timed"), ("{", "is broken"), ([], "is broken")])
def test_banks_without_a_generation_time(tree, cost, words):
    log = tree.bank(cost)
    for trainer in ("FDBPL", "CoOp_KDPL"):
        tree.pair(80.0, 60.0, trainer=trainer, log=log)
    assert words in Text(page_of(tree)).text


def test_banks_without_an_online_variant(tree):
    log = tree.bank({"seconds": 100.0, "regions": 9, "student_features": 0, "runs": 1})
    tree.pair(80.0, 60.0, trainer="FDBPL", log=log)
    assert break_evens_of(tree) == []


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
    for folder, words in ((tmp_path / "absent", "absent"), (tmp_path, "only: nothing")):
        command = [sys.executable, "-m", "fdbpl.report", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and words in done.stderr


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
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    from .browser import chromium

    try:
        with chromium() as opened:
            yield opened
    except playwright.Error as error:
        pytest.skip(f"Chromium cannot be started: {error}")


@pytest.fixture
def open_report(whole, browser):
    """Function that opens the report; at the end it must have caused no error and no request."""
    from .browser import open_page

    opened = []

    def open_report(width=1280, dark=False):
        opened.append(open_page(browser, whole / "report.html", width, dark))
        return opened[-1][0]

    yield open_report
    for tab, errors, requests in opened:
        assert errors == [] and all(address.startswith(("file:", "data:")) for address in requests)
        tab.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(open_report, width):
    backgrounds = set()
    for dark in (False, True):
        page = open_report(width, dark)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sections = page.evaluate("[...document.querySelectorAll('section')].map(section => section.id)")
        assert sections == [
            "summary",
            "tables",
            "classes",
            "data",
            "few-shot",
            "score",
            "learning",
            "cost",
            "missing",
            "gallery",
        ]
        backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2  # light and dark


def test_contrast_in_both_colour_schemes(open_report):
    """At least 4.5 : 1 for text and 3 : 1 for graphics (WCAG 2)."""
    series = [f"series-{number}" for number in range(8)]
    names = ["paper", "canvas", "ink", "muted", "accent", "bad", "warn", "warn-soft", *series]
    script = """names => Object.fromEntries(names.map(name =>
        [name, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()]))"""
    pairs = [("ink", "paper"), ("muted", "paper"), ("accent", "paper"), ("bad", "paper"), ("muted", "canvas")]
    pairs.append(("warn", "warn-soft"))
    for dark in (False, True):
        colours = open_report(dark=dark).evaluate(script, names)
        for text, ground in pairs:
            assert contrast(colours[text], colours[ground]) >= 4.5, text
        for name in series:
            assert contrast(colours[name], colours["paper"]) >= 3, name


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours #rrggbb (WCAG 2)."""

    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_tables_are_sorted_by_a_click(open_report):
    page = open_report()
    column = "[...document.querySelector('#tables table').tBodies[0].rows].map(row => row.cells[{0}].{1})"
    for place, value in ((2, "dataset.value"), (0, "textContent")):
        head = page.locator("#tables table").first.locator("thead button").nth(place)
        shown = []
        for _ in range(2):
            head.click()
            values = page.evaluate(column.format(place, value))
            shown.append([float(text) for text in values] if place else [text.casefold() for text in values])
        ordered = sorted(shown[0]) if place else [shown[1][0], *sorted(shown[0])[1:]]  # punctuation: by the locale
        assert shown == [ordered[::-1], ordered]


def test_rows_are_filtered_by_words(open_report):
    page = open_report()
    visible = "[...document.querySelectorAll('#tables .card tbody tr')].filter(row => row.offsetParent).length"
    everything = page.evaluate(visible)
    page.locator(".filter").fill("coop_kdpl DEMO")
    assert page.locator("#tables .card tbody th:visible").all_text_contents() == ["CoOp_KDPL"] * page.evaluate(visible)
    assert 0 < page.evaluate(visible) < everything
    page.locator(".filter").fill("no such row")
    assert page.locator("#tables .card:visible").count() == 0
    page.locator(".filter").fill("")
    assert page.evaluate(visible) == everything


def test_confusion_matrices_can_be_read(open_report):
    page = open_report(390, dark=True)
    page.locator("#classes summary", has_text="confusion matrices").first.click()
    figure = page.locator("#classes details[open] figure", has_text="CoOp_KDPL").last
    assert figure.locator("svg image").is_visible() and figure.locator("svg text", has_text="dog").count() == 2
    label = figure.locator("[role=img]").get_attribute("aria-label")
    assert label == "Confusion matrix of CoOp_KDPL: 6 of 8 images correct"
    assert "cat as dog (2)" in figure.inner_text()


def test_a_cell_leads_to_its_runs(open_report, whole):
    page = open_report(390)
    page.locator("#tables tr", has_text="CoOp").first.locator("td a").nth(1).click()  # base
    runs = page.locator(":target a")
    assert runs.first.is_visible() and runs.count() == 2
    folder = whole / unquote(runs.first.get_attribute("href"))
    assert (folder / "metrics.json").is_file() and "train_base/demo/shots_16/CoOp/demo/seed1" in str(folder)
