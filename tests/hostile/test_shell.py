"""The shell scripts as real processes, given text that a shell would run if it were let."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = {
    "a command": "$(touch {marker})",
    "a command in backquotes": "`touch {marker}`",
    "a second command": "demo; touch {marker}",
    "a pipe": "demo | touch {marker}",
    "a background command": "demo & touch {marker}",
    "a quote": "demo' ; touch {marker} ; '",
    "a double quote": 'demo" ; touch {marker} ; "',
    "an index": "a[$(touch {marker})]",
    "a line break": "demo\ntouch {marker}",
    "a flag": "--help",
    "a short flag": "-c",
    "a glob": "*",
    "a question mark": "????",
    "a way out": "../../../tmp",
    "a way to another file": "../trainers/CoOp/demo",
    "a control character": "demo\x1b[2J",
    "no text": "\udcff\udcfe",
    "a space": " ",
}  # fmt: skip
ARGUMENTS = ["data set", "seed", "trainer"]
VARIABLES = ["SHOTS", "CFG", "STUDENT", "NPROC"]


class Place:
    """A scratch folder in which nothing may come to be that was not asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.marker = folder / "marker"
        self.environment = {**os.environ, "FDBPL_VENV": sys.prefix, "DATA": str(folder / "data"),
                            "OUTPUT": str(folder / "output"), "OMP_NUM_THREADS": "1"}  # fmt: skip

    def text(self, case: str) -> str:
        return TEXTS[case].format(marker=self.marker)

    def run(self, script: str, *words: str, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess:
        environment = {**self.environment, **variables}
        done = subprocess.run(
            [b"bash", os.fsencode(ROOT / "scripts" / script), *map(os.fsencode, words)], timeout=timeout,
            cwd=self.folder, env={key: os.fsencode(value) for key, value in environment.items()}, capture_output=True,
        )  # fmt: skip
        assert not self.marker.exists(), "it was run"
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )

    def refused(self, script: str, *words: str, **variables: str) -> str:
        """The sentence; nothing has come to be."""
        done = self.run(script, *words, **variables)
        assert done.returncode == 2, done.stdout[-500:] + done.stderr[-2000:]
        sentences = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(sentences) == 1, done.stderr
        assert "Traceback" not in done.stderr and "unbound" not in done.stderr
        assert "\x1b" not in done.stderr
        assert list(self.folder.iterdir()) == []
        return sentences[0]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "here").mkdir()
    return Place(tmp_path / "here")


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("case", TEXTS)
def test_arguments(place, argument, case):
    if (argument, case) == ("data set", "a flag"):
        pytest.skip("--help in the first place prints the help")
    words = {"data set": "demo", "seed": "1", "trainer": "CoOp", argument: place.text(case)}
    place.refused("base2new_train.sh", *words.values())


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("case", TEXTS)
def test_variables(place, name, case):
    place.refused("base2new_train.sh", "demo", "1", "CoOp", **{name: place.text(case)})


@pytest.mark.parametrize("case", ["a command", "a second command", "a line break", "a flag", "a glob", "a way out"])
@pytest.mark.parametrize(
    "script, words, name",
    [
        ("base2new_test.sh", ["demo", "1", "CoOp"], "SUB"),
        ("base2new_test.sh", ["demo", "1", "CoOp"], "LOADEP"),
        ("generate_regions.sh", ["demo", "1", "FDBPL"], "SUB"),
        ("few_shot.sh", ["demo", "1", "CoOp"], "SHOTS"),
        ("cross_dataset.sh", ["demo", "1", "CoOp"], "TARGETS"),
        ("compare.sh", ["demo", "1"], "CFG"),
        ("reproduce_paper.sh", [], "STUDENT"),
        ("reproduce_paper.sh", [], "TRAINERS"),
    ],
)
def test_variables_of_other_scripts(place, script, words, name, case):
    place.refused(script, *words, **{name: place.text(case)})


@pytest.mark.parametrize("case", ["a command", "a second command", "a line break", "a flag", "a glob"])
def test_data_sets_of_a_grid(place, case):
    place.refused("compare.sh", "base2new", place.text(case), "1", "CoOp")


@pytest.mark.parametrize("name, case", [("JOBS", "a command"), ("LAUNCHER", "a flag"), ("EACH", "a command"),
                                        ("SHOTS", "a flag")])  # fmt: skip
def test_settings_of_a_grid(place, name, case):
    assert name in place.refused("compare.sh", "demo", "1", "CoOp", **{name: place.text(case)})


def test_overrides(place):
    assert "KEY" in place.refused("base2new_train.sh", "demo", "1", "CoOp", place.text("a command"))
    place.refused("base2new_train.sh", "demo", "1", "CoOp", place.text("a line break"), place.text("a quote"))


def test_an_environment_of_an_odd_name(place):
    """FDBPL_VENV leads to where nothing can be made, and the Python of the PATH has no packages."""
    bare = place.folder / "bin" / "python3"
    bare.parent.mkdir()
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    where = {"FDBPL_VENV": "/proc/$(touch marker)/-x", "PATH": f"{bare.parent}{os.pathsep}{os.environ['PATH']}"}
    done = place.run("base2new_train.sh", "demo", "1", "CoOp", timeout=60, **where)
    assert done.returncode == 1 and "FDBPL_VENV" in done.stderr
