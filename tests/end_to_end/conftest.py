"""The scripts as subprocesses and in this process, on demo images that are drawn once for all tests."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from PIL import Image, ImageDraw

import train
from fdbpl.protocols import __main__ as protocols
from fdbpl.protocols import grids
from fdbpl.protocols import run as protocol_run
from fdbpl.protocols.jobs import JobResult, last_error_line

from ..bad_input.calls import call

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"base2new_train.sh": "base2new", "reproduce_paper.sh": "paper"}  # others: the name without .sh


class Scripts:
    """Runs scripts/*.sh with data and output in a scratch folder.

    `start` and `run` run the real script with this Python. `here` runs its command in this process, which saves the
    seconds that each Python process needs to start.
    """

    def __init__(self, folder: Path, data: Path | None = None):
        self.output = folder / "output"
        self.data = data or folder / "data"
        self.settings = {
            "FDBPL_VENV": sys.prefix,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA": str(self.data),
            "SYNTHETIC": str(self.data),  # drawn once for all tests, whatever their OUTPUT
            "OUTPUT": str(self.output),
            "OMP_NUM_THREADS": "1",  # two threads wait for each other where another process has the second core
        }

    def elsewhere(self, folder: Path) -> "Scripts":
        """Scripts with the output in `folder`, and the same images and features of test images."""
        other = type(self)(folder, self.data)
        features = self.data.with_name("demo_features")
        features.mkdir(exist_ok=True)
        other.output.mkdir(parents=True)
        (other.output / "features").symlink_to(features)
        return other

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.settings}

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

    def here(self, script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess:
        words = [COMMANDS.get(script, script.removesuffix(".sh")), *map(str, arguments)]
        with patch.dict(os.environ, {**self.settings, **environment}), steps_in_this_process():
            os.chdir(ROOT)
            ended = call(protocols.main, words)
        return subprocess.CompletedProcess(words, ended.code, ended.out, ended.err)

    def succeed(self, script: str, *arguments: object, **environment: str) -> list[str]:
        """Output lines of a real call that must exit with 0."""
        return lines_of(self.run(script, *arguments, **environment))

    def succeed_here(self, script: str, *arguments: object, **environment: str) -> list[str]:
        """Output lines of a call in this process that must exit with 0."""
        return lines_of(self.here(script, *arguments, **environment))

    def folder(self, part: str, trainer: str, config: str = "demo", seed: int = 1, shots: int = 16) -> Path:
        return self.output / "base2new" / part / "demo" / f"shots_{shots}" / trainer / config / f"seed{seed}"


def lines_of(done: subprocess.CompletedProcess) -> list[str]:
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.splitlines()


@contextmanager
def steps_in_this_process() -> Iterator[None]:
    """Run train.py and the jobs of grids by calls of their functions; with LAUNCHER the jobs are processes as usual."""
    launcher = grids.launcher

    def choose(name: str, slurm: str, output: Path):
        return launcher(name, slurm, output) if name else launch

    with patch.object(protocol_run, "run_attached", run_train_py), patch.object(grids, "launcher", choose):
        yield


def run_train_py(command: Sequence[str]) -> int:
    def main() -> None:
        sys.argv[0] = "train.py"  # which the run records
        train.main()

    ended = call(main, command[command.index("train.py") + 1 :])
    print(ended.out, end="")
    print(ended.err, end="", file=sys.stderr)
    return ended.code


def launch(commands: Sequence[list[str]], jobs: int) -> Iterator[JobResult]:
    """A launcher of grids: `env NAME=VALUE ... bash scripts/SCRIPT ...`, one command after another."""
    for number, command in enumerate(commands):
        start = command.index("bash")
        script, *words = command[start + 1 :]
        with patch.dict(os.environ, dict(word.split("=", 1) for word in command[1:start])):
            ended = call(protocols.main, [COMMANDS.get(Path(script).name, Path(script).stem), *words])
        yield JobResult(number, ended.code, last_error_line(ended.code, ended.out, ended.err))


@pytest.fixture(scope="session")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Scripts:
    folder = tmp_path_factory.getbasetemp()
    shared = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    return Scripts(shared, shared / "demo_images").elsewhere(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's images: 40 in four classes, for trainings that take a second."""
    folder = tmp_path_factory.mktemp("own") / "shapes"
    for colour in ("red", "blue", "green", "yellow"):
        (folder / f"{colour}_shape").mkdir(parents=True)
        for number in range(10):
            image = Image.new("RGB", (90, 70 + number), "grey")
            ImageDraw.Draw(image).ellipse((10, 10, 60 + number, 60), fill=colour)
            image.save(folder / f"{colour}_shape" / f"{number}.png")
    return folder
