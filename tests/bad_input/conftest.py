"""A small data set in CoOp's layout, and entry points called in a scratch folder."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import train

from .calls import CallResult, call, refused, succeeds

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {"banded": "red", "dotted": "blue", "lined": "green", "woven": "yellow"}
SHARES = {"train": 3, "val": 1, "test": 2}  # images of each class


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of each test, in which default relative paths are resolved."""
    monkeypatch.delenv("FDBPL_DEBUG", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def draw_image(file: Path, colour: str, number: int = 0, size: tuple[int, int] = (70, 60)) -> None:
    """Draw a coloured shape on grey, in the format of the file's extension."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, "grey")
    ImageDraw.Draw(image).ellipse((8 + number, 6, 50 + number, 50), fill=colour)
    image.save(file)


def make_root(folder: Path) -> Path:
    """Make a data root with a DTD of four classes: root/dtd/{images,split_zhou_DescribableTextures.json}."""
    split: dict[str, list] = {part: [] for part in SHARES}
    for label, (name, colour) in enumerate(CLASSES.items()):
        for number, part in enumerate(part for part, count in SHARES.items() for _ in range(count)):
            path = f"{name}/{name}_{number}.jpg"
            draw_image(folder / "data" / "dtd" / "images" / path, colour, number)
            split[part].append([path, label, name])
    (folder / "data" / "dtd" / "split_zhou_DescribableTextures.json").write_text(json.dumps(split))
    return folder / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The data root of this test."""
    return make_root(tmp_path)


class Training:
    """`train.py` on a data root with the embedded demo CLIPs, on the CPU.

    Attributes:
        output: the run folder.
    """

    def __init__(self, folder: Path):
        self.output = folder / "work" / "run"

    def words(
        self,
        root: object,
        *overrides: object,
        flags: Iterable[object] = (),
        trainer: str = "ZeroshotCLIP",
        dataset: str = "dtd",
    ) -> list[str]:
        """Return the command line of `flags`, e.g. ["--eval-only"], and KEY VALUE pairs."""
        return [
            "--root", os.fspath(root), "--seed", "1", "--trainer", trainer, "--output-dir", str(self.output),
            "--dataset-config-file", str(ROOT / "configs" / "datasets" / f"{dataset}.yaml"),
            "--config-file", str(ROOT / "configs" / "trainers" / trainer / "demo.yaml"), *map(str, flags),
            "USE_CUDA", "False", "DATASET.NUM_SHOTS", "2", *map(str, overrides),
        ]  # fmt: skip

    def refused(self, root: object, *overrides: object, names=(), unchanged=(), code: int = 2, **words) -> str:
        """Run and return the error message (see `refused`)."""
        return refused(train.main, self.words(root, *overrides, **words), names, unchanged=unchanged, code=code)

    def ended(self, root: object, *overrides: object, **words) -> CallResult:
        return call(train.main, self.words(root, *overrides, **words))

    def succeeds(self, root: object, *overrides: object, unchanged=(), **words) -> CallResult:
        return succeeds(train.main, self.words(root, *overrides, **words), unchanged)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run (ZeroshotCLIP) on the small data set."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "work").mkdir()
    before = os.getcwd()
    os.chdir(folder / "work")
    try:
        training = Training(folder)
        training.succeeds(make_root(folder))
    finally:
        os.chdir(before)
    return training.output


Edit = Callable[[dict], object]


@pytest.fixture
def edit_split(root: Path) -> Callable[[Edit], Path]:
    """Return a function that changes the content of the split file and returns its path."""
    file = root / "dtd" / "split_zhou_DescribableTextures.json"

    def edit(change: Edit) -> Path:
        content = json.loads(file.read_text())
        file.write_text(json.dumps(change(content) or content))
        return file

    return edit
