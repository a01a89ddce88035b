import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parent
START = "import sys, runpy; from third_party import use_dassl; use_dassl(); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"  # noqa: E501


@pytest.fixture(scope="session")
def toy():
    """The module tests/dassl/toy.py."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("toy", HERE / "toy.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_toy():
    """Runs tests/dassl/toy.py in a process of its own: Dassl's log takes over its standard output."""

    def run(folder, *overrides) -> str:
        done = subprocess.run(
            [sys.executable, "-c", START, str(HERE / "toy.py"), str(folder), *map(str, overrides)],
            cwd=HERE.parents[1], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
