"""A workspace with tiny CLIPs and complete runs; tests damage copies of it.

train.py trained FDBPL and CoOp for two epochs on the base classes and tested them on the new ones:
runs/{FDBPL,CoOp}{,_new}, regions/tiny/<bank>, features, config.yaml.
"""

import json
import shutil
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pytest

import train

from ..calls import CallResult, refused, succeeds


class Workspace:
    """A copy of the workspace in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def run(self, name: str = "FDBPL") -> Path:
        return self.folder / "runs" / name

    def checkpoint(self, epoch: int = 2, trainer: str = "FDBPL") -> Path:
        return self.run(trainer) / "prompt_learner" / f"model.pth.tar-{epoch}"

    @cached_property
    def bank(self) -> Path:
        (manifest,) = (self.folder / "regions" / "tiny").glob("*/manifest.json")
        return manifest.parent

    def shards(self) -> list[Path]:
        return sorted(self.bank.glob("regions-*.safetensors"))

    def student_features(self) -> list[Path]:
        return sorted(self.bank.glob("features/*/*.safetensors"))

    def texts(self) -> list[Path]:
        return sorted(self.bank.glob("text/*.safetensors"))

    def test_features(self) -> list[Path]:
        return sorted((self.folder / "features").glob("*/*.safetensors"))

    def words(
        self, *overrides: object, flags: Iterable[object] = (), trainer: str = "FDBPL", output: str = "again",
        config: Path | None = None,
    ) -> list[str]:  # fmt: skip
        """Return the command line of train.py for a run in runs/`output`."""
        return [
            "--config-file", str(config or self.config), "--trainer", trainer, "--seed", "1",
            "--output-dir", str(self.run(output)), *map(str, flags),
            "REGIONS.ROOT", str(self.folder / "regions"), "TEST.FEATURE_CACHE_DIR", str(self.folder / "features"),
            *map(str, overrides),
        ]  # fmt: skip

    def tested(self, trainer: str = "FDBPL") -> list[str]:
        """Return the flags that evaluate a run of this workspace."""
        return ["--eval-only", "--model-dir", str(self.run(trainer))]

    def refused(
        self, *overrides: object, names: str | Path | Iterable[str | Path] = (), code: int = 2,
        unchanged: Iterable[Path] = (), **words,
    ) -> str:  # fmt: skip
        names = [str(name) for name in ([names] if isinstance(names, str | Path) else names)]
        kept = [self.folder / "regions", self.folder / "features", self.run(), *unchanged]
        return refused(train.main, self.words(*overrides, **words), names, code=code, unchanged=kept)

    def succeeds(self, *overrides: object, **words) -> CallResult:
        return succeeds(train.main, self.words(*overrides, **words))

    def metrics(self, run: str = "again") -> dict:
        return json.loads((self.run(run) / "metrics.json").read_text())


@pytest.fixture(scope="session")
def prepared(cfg_in, tmp_path_factory) -> Path:
    """The folder that the fixture `workspace` copies."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    cfg = cfg_in(
        workspace.folder, "FDBPL", "unused", {"OPTIM.MAX_EPOCH": 2, "TRAIN.CHECKPOINT_FREQ": 1, "VERBOSE": False}
    )
    workspace.config.write_text(cfg.dump())
    succeeds(train.main, workspace.words(flags=["--generate-regions"]))
    for trainer in ("FDBPL", "CoOp"):
        workspace.succeeds(trainer=trainer, output=trainer)
        workspace.succeeds(
            "DATASET.SUBSAMPLE_CLASSES",
            "new",
            trainer=trainer,
            output=f"{trainer}_new",
            flags=workspace.tested(trainer),
        )
    return workspace.folder


@pytest.fixture
def workspace(prepared: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(prepared, tmp_path / "w")
    return Workspace(tmp_path / "w")


def edit_json(file: Path, **changes: object) -> None:
    """Set keys of a JSON object; None removes one."""
    content = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
