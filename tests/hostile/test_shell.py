"""The shell scripts as real processes, given text that a shell would run if it were let."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..trainers.conftest import data_root  # noqa: F401

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
            [b"bash", os.fsencode(ROOT / "scripts" / script), *map(os.fsencode, words)], timeout=timeout, cwd=self.folder,
            env={key: os.fsencode(value) for key, value in environment.items()}, capture_output=True,
        )  # fmt: skip
        assert not self.marker.exists(), "it was run"
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        )

    def refused(self, script: str, *words: str, **variables: str) -> str:
        """The sentence; nothing has come to be."""
        done = self.run(script, *words, **variables)
        assert done.returncode == 2, done.stdout[-500:] + done.stderr[-2000:]
        sentences = [line for line in done.stderr.splitlines() if line.startswith("error: expected ")]
        assert len(sentences) == 1 and "found" in sentences[0] and "; " in sentences[0], done.stderr
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


@pytest.mark.parametrize("name, said", [("JOBS", "JOBS"), ("LAUNCHER", "LAUNCHER"), ("EACH", "EACH"), ("SHOTS", "SHOTS")])
@pytest.mark.parametrize("case", ["a command", "a flag"])
def test_settings_of_a_grid(place, name, said, case):
    assert said in place.refused("compare.sh", "demo", "1", "CoOp", **{name: place.text(case)})


@pytest.mark.parametrize("case", ["a command", "a line break", "a quote"])
def test_overrides(place, case):
    assert "KEY" in place.refused("base2new_train.sh", "demo", "1", "CoOp", place.text(case))
    place.refused("base2new_train.sh", "demo", "1", "CoOp", place.text(case), "1")
    place.refused("base2new_train.sh", "demo", "1", "CoOp", "OPTIM.LR", place.text(case))


HARD = "a 'b' \"c\" $(touch marker) ; & * ? é"


def test_places_with_every_odd_letter(tmp_path, data_root):  # noqa: F811
    """Pictures, results and class names in folders that no shell likes: learnt from, tested, and reported."""
    here = tmp_path / HARD
    here.mkdir()
    classes = ["$(touch marker)", "-c", "a;b", "'c'", '"d"', "*", "e\tf", "<b>g"]
    for number, name in enumerate(classes):
        (here / "photos" / name).mkdir(parents=True)
        for picture in range(6):
            source = data_root / "tiny" / "images" / f"{number}_{picture}.jpg"
            (here / "photos" / name / f"-{picture} $(touch marker).jpg").write_bytes(source.read_bytes())
    place = Place(here)
    few = ["OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0", "REGIONS.PER_IMAGE", "2"]
    done = place.run(
        "base2new_train.sh", "folder", "1", "FDBPL", *few, DATA="photos", OUTPUT="-out put", SHOTS="1", STUDENT="demo"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert " H " in done.stdout.splitlines()[-1]
    assert not list(here.rglob("marker")) and not (ROOT / "marker").exists()
    assert sorted(path.name for path in here.iterdir()) == ["-out put", "photos"]


def test_an_environment_of_an_odd_name(place):
    """FDBPL_VENV leads nowhere: said before anything is made in places that cannot be."""
    done = place.run("base2new_train.sh", "demo", "1", "CoOp", FDBPL_VENV="/proc/$(touch marker)/-x", timeout=60)
    assert done.returncode == 1 and "FDBPL_VENV" in done.stderr
