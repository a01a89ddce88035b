"""Bad and hostile input from tests/bad_input and tests/hostile, one test file at a time."""

import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tools.soak.killing import Command
from tools.soak.scenarios import ROOT

FOLDERS = ("tests/bad_input", "tests/hostile")


def files() -> list[Path]:
    """Return all test files of bad input."""
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("test_*.py"))


def run_test_file(file: Path, folder: Path) -> int:
    """Run a test file with `folder` as its scratch folder; return the number of inputs tested.

    Raises:
        Lost: a test failed, or a process keeps running.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    report = folder / "report.xml"
    arguments = ["-m", "pytest", file, f"--basetemp={folder / 'cases'}", f"--junit-xml={report}"]
    folder.mkdir(parents=True, exist_ok=True)
    Command([sys.executable, *arguments], {**environment, "OMP_NUM_THREADS": "1"}, ROOT).succeed(1800)
    suites = ElementTree.parse(report).iter("testsuite")
    return sum(int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) for suite in suites)
