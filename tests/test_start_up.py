"""Start-up time: --help and error messages do not import torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "torchvision", "dassl", "numpy")
CODE = """
import runpy, sys
sys.argv = {argv!r}
try:
    runpy.run_{how}({what!r}, run_name="__main__")
except SystemExit as ended:
    code = ended.code
heavy = [name for name in {heavy!r} if name in sys.modules]
sys.exit(f"{{code}} {{heavy}}" if code or heavy else 0)
"""


MODULES = (
    "fdbpl.runs", "fdbpl.report", "fdbpl.predict", "fdbpl.evaluate", "fdbpl.export", "fdbpl.doctor", "fdbpl.regions",
    "tools.benchmark",
)  # fmt: skip


@pytest.mark.parametrize(("how", "what"), [("path", "train.py"), *(("module", name) for name in MODULES)])
def test_help_imports_nothing_heavy(how, what):
    code = CODE.format(argv=[what, "--help"], how=how, what=what, heavy=HEAVY)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout


def test_parts_of_every_script_do_not_import_torch():
    modules = "fdbpl.errors, fdbpl.io.atomic, fdbpl.protocols.run, fdbpl.data.custom.dataset"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
