"""`python -m fdbpl.doctor`: can this machine run FDBPL? One screen; each problem with its remedy.

Needs no package: `python3 -m fdbpl.doctor` in a checkout works with the system's Python before anything is installed.
"""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path

from fdbpl.doctor import places, software, weights
from fdbpl.doctor.findings import Finding, safely
from fdbpl.errors import cli_error_handler

MARKS = {"fine": "ok", "warning": "! ", "problem": "X "}


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets (default: data)")
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder of the runs (default: output)")
    arguments = parser.parse_args(words)
    with cli_error_handler(interrupted="nothing was changed"):
        examine(arguments.data.expanduser(), arguments.output.expanduser())


def examine(data: Path, output: Path) -> None:
    """Print every finding as it comes, then the verdict, which is the exit code."""
    findings = []
    for check in checks(data, output):
        for finding in safely(check):
            findings.append(finding)
            print(f"{MARKS[finding.state]} {finding.subject:<12} {finding.found}", flush=True)
            if finding.remedy:
                print(f"   {'':<12} -> {finding.remedy}", flush=True)
    problems = sum(finding.state == "problem" for finding in findings)
    warned = sum(finding.state == "warning" for finding in findings)
    verdict = f"cannot run: {problems} problem{'s' * (problems > 1)}" if problems else "can run"
    print(f"\nThe demo world {verdict}" + (f" ({warned} of the optional parts lack something)" if warned else ""))
    sys.exit(1 if problems else 0)


def checks(data: Path, output: Path) -> list[Callable[[], Iterator[Finding]]]:
    return [
        software.python, software.packages, software.torch_and_gpu, software.torchvision, software.dali, software.clip,
        software.dassl, software.open_clip, weights.demo_clips, weights.clip_weights, weights.teachers,
        lambda: places.data_sets(data), lambda: places.writable(output), lambda: places.disk(output), places.machine,
    ]  # fmt: skip


if __name__ == "__main__":
    main()
