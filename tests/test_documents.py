"""What the documents show is there, and is what they show."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
SHOWN = re.findall(r"^`(tests/\S+)`:\n\n```\w+\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)


def test_every_example_is_shown():
    examples = {str(file.relative_to(ROOT)) for file in ROOT.glob("tests/*/new_*/*.*") if file.suffix != ".pyc"}
    assert {path for path, _ in SHOWN} == examples


@pytest.mark.parametrize(("path", "code"), SHOWN, ids=[Path(path).stem for path, _ in SHOWN])
def test_the_code_shown_is_the_code_tested(path, code):
    assert (ROOT / path).read_text() == code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_is_there(page):
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    scripts = set(re.findall(r"\bbash ((?:scripts|third_party|\.ci)/[\w./]+)", text))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
