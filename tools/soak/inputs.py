"""Wrong and hostile input as tests/bad_input and tests/hostile have it, one file of cases at a time."""

import os
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tools.soak.killing import Command
from tools.soak.scenarios import ROOT

FOLDERS = ("tests/bad_input", "tests/hostile")


def files() -> list[Path]:
    """All files of cases."""
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("test_*.py"))


def tried(file: Path, folder: Path) -> int:
    """How many inputs of `file` were refused, or taken, as they should be; `folder` is for what they need.

    Raises:
        Lost: one was not, or a process goes on.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    report = folder / "report.xml"
    arguments = ["-m", "pytest", file, f"--basetemp={folder / 'cases'}", f"--junit-xml={report}"]
    folder.mkdir(parents=True, exist_ok=True)
    Command([sys.executable, *arguments], {**environment, "OMP_NUM_THREADS": "1"}, ROOT).succeed(1800)
    suites = ElementTree.parse(report).iter("testsuite")
    return sum(int(suite.get("tests", 0)) - int(suite.get("skipped", 0)) for suite in suites)
