"""Reading a parity pack, building our trainers on its tiny CLIPs, saying how far from the official numbers we are."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

DEVIATIONS: dict[str, tuple[float, str]] = {}


class Pack:
    """The numbers of one folder; any pack with the same file names and keys will do."""

    def __init__(self, folder: Path, scratch: Path):
        self.folder, self.scratch = folder, scratch
        self.inputs = self.arrays("inputs")

    def names(self, prefix: str) -> list[str]:
        return sorted(path.stem for path in self.folder.glob(f"{prefix}*.json"))

    def arrays(self, name: str) -> dict[str, torch.Tensor]:
        path = self.folder / f"{name}.npz"
        if not path.is_file():
            pytest.skip(f"the pack at {self.folder} has no {name}")
        with np.load(path) as file:
            return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}

    def settings(self, name: str) -> dict:
        return json.loads((self.folder / f"{name}.json").read_text())

    def clip_file(self, name: str) -> str:
        """One of the pack's CLIPs as a file that `load_backbone` reads."""
        path = self.scratch / f"{name}.safetensors"
        if not path.is_file():
            state = {key: value.float() if value.is_floating_point() else value
                     for key, value in self.arrays(name).items()}  # fmt: skip
            save_file({key: value.contiguous() for key, value in state.items()}, path)
        return str(path)

    def batch(self, size: int) -> dict[str, torch.Tensor]:
        return {"img": self.inputs["images"][:size], "label": self.inputs["labels"][:size].long()}


def names_in_pack(prefix: str) -> list[str]:
    """For parametrisation at collection: the pack's method files that begin with `prefix`."""
    import os

    default = Path(os.environ.get("FDBPL_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "parity"
    folder = Path(os.environ.get("FDBPL_PARITY", default))
    return sorted(path.stem for path in folder.glob(f"{prefix}*.json")) or ["absent"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "methods(*prefixes): run for each method of the pack with such a name")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("methods")
    if marker is not None:
        names = [name for prefix in marker.args for name in names_in_pack(prefix)]
        metafunc.parametrize("method", dict.fromkeys(names))


@pytest.fixture(scope="session")
def pack(parity: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return Pack(parity, tmp_path_factory.mktemp("clip"))


@pytest.fixture
def build(pack: Pack, tmp_path: Path):
    """build(trainer, classnames, {"KEY": value}) -> that trainer on the pack's student, without data on disk."""
    from dassl.config import get_cfg_default

    import trainers

    def make(name: str, classnames: list[str], overrides: dict, template: str = "a photo of a {}."):
        cfg = get_cfg_default()
        trainers.extend_cfg(cfg)
        cfg.TRAINER.NAME, cfg.OUTPUT_DIR, cfg.SEED, cfg.USE_CUDA = name, str(tmp_path), 1, False
        cfg.MODEL.BACKBONE.NAME = pack.clip_file("student_clip")
        cfg.INPUT.SIZE = tuple(pack.inputs["images"].shape[-2:])
        for key, value in {"NAME": "sgd", "LR": 0.002, "LR_SCHEDULER": "cosine", "MAX_EPOCH": 50}.items():
            cfg.OPTIM[key] = value
        # the pack's images are normalised with CLIP's moments
        cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = ([0.48145466, 0.4578275, 0.40821073],
                                                     [0.26862954, 0.26130258, 0.27577711])  # fmt: skip
        for key, value in overrides.items():
            *path, last = key.split(".")
            node = cfg
            for part in path:
                node = node[part]
            node[last] = value
        trainers.modules()
        from dassl.engine import TRAINER_REGISTRY

        trainer_class = TRAINER_REGISTRY.get(name)
        dataset = SimpleNamespace(classnames=classnames, template=template)

        class WithoutData(trainer_class):
            def build_data_loader(self):
                self.dm = SimpleNamespace(dataset=dataset)
                self.lab2cname = dict(enumerate(classnames))
                self.supervision = self.supervision_class(self.cfg, dataset, self.device)

        return WithoutData(cfg)

    return make


@pytest.fixture
def agree():
    """agree(group, ours, theirs): within the pack's tolerances; remembers the largest deviation of each group."""

    def check(group: str, ours: torch.Tensor, theirs: torch.Tensor, where: str = "") -> None:
        ours, theirs = ours.detach().double(), theirs.double()
        assert ours.shape == theirs.shape, f"{group} {where}: shape {tuple(ours.shape)} != {tuple(theirs.shape)}"
        largest = float((ours - theirs).abs().max())
        size = float(theirs.abs().max())
        if group == "parameters":
            scaled, limit = largest, 1e-6
        elif group == "gradients":
            scaled, limit = largest / max(size, 1e-12), 1e-5 + 1e-6 / max(size, 1e-12)
        else:
            scaled, limit = largest / max(1.0, size), 1e-5
        if scaled > DEVIATIONS.get(group, (-1.0, ""))[0]:
            DEVIATIONS[group] = (scaled, where)
        assert scaled <= limit, f"{group} {where}: deviation {scaled:.2e} > {limit:.2e}"

    return check


def pytest_terminal_summary(terminalreporter) -> None:
    if DEVIATIONS:
        terminalreporter.section("largest deviation from the official numbers")
        for group, (value, where) in sorted(DEVIATIONS.items()):
            terminalreporter.write_line(f"{group:12s} {value:.1e}  {where}")
