"""Shell scripts as real processes, with arguments and variables that contain shell code: none of it is executed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    "commands": "demo; touch {marker} | touch {marker} & touch {marker} && $(touch {marker}) `touch {marker}`",
    "an index": "a[$(touch {marker})]",
    "single quotes": "demo' ; touch {marker} ; '",
    "double quotes": 'demo" ; touch {marker} ; "',
    "a line break": "demo\ntouch {marker}",
    "a flag": "--help",
    "a pattern": "*",
    "a path": "../trainers/CoOp/demo",
    "a control character": "demo\x1b[2J",
    "no UTF-8": "\udcff\udcfe",
    "a space": " ",
}


class Scripts:
    """Runs scripts in an empty folder that has to stay empty."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.marker = folder / "marker"
        self.environment = {**os.environ, "FDBPL_VENV": sys.prefix, "DATA": str(folder / "data"),
                            "OUTPUT": str(folder / "output"), "OMP_NUM_THREADS": "1"}  # fmt: skip

    def text(self, case: str) -> str:
        return TEXTS[case].format(marker=self.marker)

    def run(self, script: str, *words: str, **variables: str) -> subprocess.CompletedProcess:
        environment = {key: os.fsencode(value) for key, value in (self.environment | variables).items()}
        command = [b"bash", os.fsencode(ROOT / "scripts" / script), *map(os.fsencode, words)]
        ended = subprocess.run(command, timeout=120, cwd=self.folder, env=environment, capture_output=True)
        assert not self.marker.exists(), "the text was executed"
        ended.stdout, ended.stderr = (text.decode("utf-8", "replace") for text in (ended.stdout, ended.stderr))
        return ended

    def refused(self, script: str, *words: str, **variables: str) -> str:
        """Require exit code 2 and a one-line message, which is returned."""
        ended = self.run(script, *words, **variables)
        assert ended.returncode == 2, ended.stdout[-500:] + ended.stderr[-2000:]
        messages = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert len(messages) == 1, ended.stderr
        assert not any(word in ended.stderr for word in ("Traceback", "unbound", "\x1b"))
        assert list(self.folder.iterdir()) == []
        return messages[0]


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    (tmp_path / "empty").mkdir()
    return Scripts(tmp_path / "empty")


@pytest.mark.parametrize(
    "place, case",
    [
        *(("trainer", case) for case in TEXTS),
        *((place, "commands") for place in ("data set", "seed")),
        *((name, case) for name in ("SHOTS", "CFG", "STUDENT", "NPROC") for case in ("commands", "a flag", "a path")),
    ],
)
def test_one_run(scripts, place, case):
    words = {"data set": "demo", "seed": "1", "trainer": "CoOp"}
    variables = {}
    (words if place in words else variables)[place] = scripts.text(case)
    scripts.refused("base2new_train.sh", *words.values(), **variables)


@pytest.mark.parametrize(
    "script, words, name",
    [
        ("base2new_test.sh", ["demo", "1", "CoOp"], "SUB"),
        ("base2new_test.sh", ["demo", "1", "CoOp"], "LOADEP"),
        ("generate_regions.sh", ["demo", "1", "FDBPL"], "SUB"),
        ("few_shot.sh", ["demo", "1", "CoOp"], "SHOTS"),
        ("cross_dataset.sh", ["demo", "1", "CoOp"], "TARGETS"),
        ("compare.sh", ["demo", "1", "CoOp"], "JOBS"),
        ("compare.sh", ["demo", "1", "CoOp"], "LAUNCHER"),
        ("compare.sh", ["demo", "1", "CoOp"], "EACH"),
        ("compare.sh", ["demo", "1", "CoOp"], "SHOTS"),
        ("reproduce_paper.sh", [], "STUDENT"),
        ("reproduce_paper.sh", [], "TRAINERS"),
    ],
)
def test_variables_of_other_scripts(scripts, script, words, name):
    scripts.refused(script, *words, **{name: scripts.text("commands")})


def test_data_sets_of_a_grid(scripts):
    scripts.refused("compare.sh", "base2new", scripts.text("commands"), "1", "CoOp")


def test_overrides(scripts):
    assert "KEY" in scripts.refused("base2new_train.sh", "demo", "1", "CoOp", scripts.text("commands"))


def test_a_python_environment_with_shell_code_in_its_path(scripts):
    """FDBPL_VENV is a path where nothing can be created, and the Python of the PATH has no packages."""
    bare = scripts.folder / "bin" / "python3"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    variables = {"FDBPL_VENV": "/proc/$(touch marker)/-x", "PATH": f"{bare.parent}{os.pathsep}{os.environ['PATH']}"}
    ended = scripts.run("base2new_train.sh", "demo", "1", "CoOp", **variables)
    assert ended.returncode == 1 and "FDBPL_VENV" in ended.stderr
