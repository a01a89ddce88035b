"""Fixtures and markers of all tests: the Dassl that train.py uses, and optional development data."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of child processes
os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of child processes: tests read their stderr
os.environ.setdefault("OUTDATED_IGNORE", "1")  # outdated, which upstream's Dassl needs, warns in spite of that
torch.set_num_threads(1)  # more threads would wait for each other while another test occupies a core
signal.signal(signal.SIGINT, signal.default_int_handler)  # commands started with `&` ignore it

from third_party import use_dassl  # noqa: E402

DASSL = use_dassl()


SLOW = (  # folders and files whose tests run whole commands, or many of them
    "tests/bad_input", "tests/dassl/test_source", "tests/end_to_end", "tests/faults",
    "tests/hostile/test_shell", "tests/plugin", "tests/report/test_page", "tests/protocols/test_grid",
    "tests/protocols/test_launchers", "tests/tools/test_demo_pretraining", "tests/gpu/test_every_trainer",
    "tests/trainers/test_class_agnostic", "tests/trainers/test_deterministic", "tests/trainers/test_divergence",
    "tests/trainers/test_every_method", "tests/trainers/test_torchrun",
)  # fmt: skip


def pytest_report_header() -> str:
    return DASSL


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, run the slow files first, skip those that need a GPU where there is none."""
    for item in items:
        file = item.path.relative_to(ROOT).as_posix()
        if file.startswith(SLOW):
            item.add_marker("slow")
        if file.startswith("tests/parity/"):
            item.add_marker("parity")
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no GPU"))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)  # whole files: a long one at the end would occupy one core alone


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """Photographs, split files and reference values that are not part of the project. Tests only read them."""
    path = Path(os.environ.get("FDBPL_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"no development data at {path}; set FDBPL_SHARED")
    before = set((path / "data").rglob("*"))
    yield path
    assert set((path / "data").rglob("*")) == before, f"a test made or removed files in {path / 'data'}"


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> Path:
    """A data root of this test that links to the shared photographs: few-shot lists are written next to them."""
    source, root = shared / "data" / "caltech-101", tmp_path / "data"
    (root / "caltech-101").mkdir(parents=True)
    for name in ("101_ObjectCategories", "split_zhou_Caltech101.json"):
        (root / "caltech-101" / name).symlink_to(source / name)
    return root


@pytest.fixture(scope="session")
def parity(request: pytest.FixtureRequest) -> Path:
    """Reference values of the official implementations."""
    default = Path(os.environ.get("FDBPL_SHARED", ROOT.parent / "shared")) / "parity"
    path = Path(os.environ.get("FDBPL_PARITY", default))
    if not path.is_dir():
        pytest.skip(f"no reference values of the official implementations at {path}; set FDBPL_PARITY")
    return path


@pytest.fixture
def cpu_with(monkeypatch):
    """Return cpu_with(instructions), which simulates a CPU with these instructions for bfloat16, e.g. "AMX"."""

    def simulate(instructions: str) -> None:
        for module in ("fdbpl.backbones", "fdbpl.engine.trained_run_records"):
            monkeypatch.setattr(f"{module}.cpu_bf16", lambda: instructions)

    return simulate
