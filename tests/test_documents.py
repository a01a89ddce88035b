"""Links, anchors and commands of the documentation."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_commands_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in (first or second for first, second in links):
        path, _, anchor = link.partition("#")
        if "://" not in link:
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    scripts = set(re.findall(r"\bbash ((?:scripts|third_party|\.ci)/\w[\w./]*)", text))
    assert [script for script in scripts if not (ROOT / script).is_file()] == []
    modules = set(re.findall(r"\bpython3? -m ((?:fdbpl|tools)[\w.]*\w)", text))
    recorded = {"fdbpl.bench"} if page.name == "PERFORMANCE.md" else set()  # the benchmark's name on its record
    assert [module for module in modules - recorded if importlib.util.find_spec(module) is None] == []
