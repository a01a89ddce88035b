"""The real scripts as subprocesses, on the demo world drawn once for the whole session."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Scripts:
    """Runs scripts/*.sh with data and output in a scratch folder, with this very Python."""

    def __init__(self, folder: Path, data: Path | None = None):
        self.output = folder / "output"
        self.data = data or folder / "data"
        self.environment = {
            **os.environ,
            "FDBPL_VENV": sys.prefix,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA": str(self.data),
            "SYNTHETIC": str(self.data),  # drawn once for all tests, whatever their OUTPUT
            "OUTPUT": str(self.output),
            "OMP_NUM_THREADS": "1",  # two threads wait for each other where another process has the second core
        }

    @staticmethod
    def path(script: str) -> Path:
        return ROOT / "scripts" / script

    def start(self, script: str, *arguments: object, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            ["bash", str(self.path(script)), *map(str, arguments)],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        process = self.start(script, *arguments, **environment)
        output, errors = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def succeed(self, script: str, *arguments: object, **environment: str) -> list[str]:
        """Output lines of a call that must exit with 0."""
        done = self.run(script, *arguments, **environment)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout.splitlines()

    def folder(self, part: str, trainer: str, config: str = "demo", seed: int = 1, shots: int = 16) -> Path:
        return self.output / "base2new" / part / "demo" / f"shots_{shots}" / trainer / config / f"seed{seed}"


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    return Scripts(tmp_path_factory.mktemp("world"))
