"""Shared by all tests: Dassl found as train.py finds it, and the optional material that development has at hand."""

import os
import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

os.environ.setdefault("OMP_NUM_THREADS", "2")
signal.signal(signal.SIGINT, signal.default_int_handler)  # behind a shell's `&` it would be ignored, in children too

from third_party import use_dassl  # noqa: E402

DASSL = use_dassl()


def pytest_report_header() -> str:
    return DASSL


@pytest.fixture(scope="session")
def shared() -> Path:
    """Photographs, split files and reference numbers that are not part of the project."""
    path = Path(os.environ.get("FDBPL_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no development material at {path}; set FDBPL_SHARED")
    return path


@pytest.fixture(scope="session")
def parity(request: pytest.FixtureRequest) -> Path:
    """Numbers obtained from the official implementations."""
    default = Path(os.environ.get("FDBPL_SHARED", ROOT.parent / "shared")) / "parity"
    path = Path(os.environ.get("FDBPL_PARITY", default))
    if not path.is_dir():
        pytest.skip(f"no numbers of the official implementations at {path}; set FDBPL_PARITY")
    return path
