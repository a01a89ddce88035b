"""Comparison of our trainers with reference values of the official code, on the tiny CLIPs of a parity pack."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from .official import optimiser_of

ZERO_BY_THE_MATHS = ("VPT_image_trans.conv1.0.bias",)  # before batch norm, where gradients are only rounding errors
DEVIATIONS: dict[str, tuple[float, str]] = {}


class Pack:
    """Reference values of one folder. Any pack with the same file names and keys can be used."""

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
        """Write one of the pack's CLIPs to a file that `load_backbone` reads, and return its path."""
        path = self.scratch / f"{name}.safetensors"
        if not path.is_file():
            state = {key: value.float() if value.is_floating_point() else value
                     for key, value in self.arrays(name).items()}  # fmt: skip
            save_file({key: value.contiguous() for key, value in state.items()}, path)
        return str(path)

    def batch(self, settings: dict) -> dict[str, torch.Tensor]:
        """Return the batch of a method's official run."""
        labels = settings.get("labels_used", self.inputs["labels"].tolist())
        size = settings.get("batch_size", len(self.inputs["images"]))
        return {"img": self.inputs["images"][:size], "label": torch.tensor(labels[:size])}


def names_in_pack(prefix: str) -> list[str]:
    """Return the names of the pack's method files that begin with `prefix`, for parametrization."""
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
    """Return build(trainer, classnames, {"KEY": value}), which builds a trainer without data on the pack's student."""
    from dassl.config import get_cfg_default

    from fdbpl.engine import registry
    from fdbpl.engine.supervision.hard_labels import HardLabels

    def make(
        name: str, classnames: list[str], overrides: dict, template: str = "a photo of a {}.", clip="student_clip"
    ):
        cfg = get_cfg_default()
        registry.extend_cfg(cfg)
        cfg.TRAINER.NAME, cfg.OUTPUT_DIR, cfg.SEED, cfg.USE_CUDA = name, str(tmp_path), 1, False
        cfg.MODEL.BACKBONE.NAME = pack.clip_file(clip)
        cfg.INPUT.SIZE = tuple(pack.inputs["images"].shape[-2:])
        # the pack's images are normalised with CLIP's moments
        cfg.INPUT.PIXEL_MEAN, cfg.INPUT.PIXEL_STD = ([0.48145466, 0.4578275, 0.40821073],
                                                     [0.26862954, 0.26130258, 0.27577711])  # fmt: skip
        for key, value in overrides.items():
            *path, last = key.split(".")
            node = cfg
            for part in path:
                node = node[part]
            node[last] = value
        registry.import_trainers()
        from dassl.engine import TRAINER_REGISTRY

        trainer_class = TRAINER_REGISTRY.get(name)
        dataset = SimpleNamespace(classnames=classnames, template=template)

        class WithoutData(trainer_class):
            def build_data_loader(self):
                self.dm = SimpleNamespace(dataset=dataset)
                self.lab2cname = dict(enumerate(classnames))
                self.train_loader_x = None

        trainer = WithoutData(cfg)
        if trainer.supervision_class is HardLabels:
            trainer.build_supervision()
        return trainer

    return make


class Comparison:
    """One of our trainers, and the arrays of an official run to compare it with."""

    def __init__(self, method, arrays, settings, batch, build, agree, pack):
        self.method, self.arrays, self.settings, self.batch = method, arrays, settings, batch
        self.build, self.agree, self.pack = build, agree, pack

    def of(self, trainer: str, overrides: dict, template: str | None = None) -> None:
        """Build the trainer with the official run's initial parameters; a context of words must already be equal."""
        overrides = optimiser_of(self.settings) | overrides
        clip = self.settings.get("clip_file", "student_clip.npz").removesuffix(".npz")
        self.make = lambda classes: self.build(trainer, classes, overrides, template or self.template, clip)
        self.trainer = self.make(self.settings["classes"])
        for name, parameter in self.parameters().items():
            start = self.arrays[f"init/{name}"]
            assert parameter.shape == start.shape, name
            if name.endswith(".ctx") and self._begins_with_words(name):
                self.agree("init", parameter, start, f"{self.method} {name}")
            parameter.data.copy_(start)

    def _begins_with_words(self, name: str) -> bool:
        settings = self.trainer.settings(self.trainer.cfg)
        return bool(settings.get("CTX_INIT") or settings.get("TEMPLATE_INIT") or "generic" in name)

    @property
    def template(self) -> str:
        keys = ("template", "frozen_template", "teacher_template")
        return next((self.settings[key] for key in keys if key in self.settings), "a photo of a {}.")

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """Return our parameters by their official names; there must be no others."""
        found = {}
        for learner, module in self.trainer._models.items():
            folder = {"negative_prompt_learner": "prompt_learner_generic"}.get(learner, learner)
            for name, parameter in module.named_parameters():
                own = f"init/{name}" in self.arrays
                found[name if own else f"{folder}.{name}"] = parameter
        theirs = {key.removeprefix("init/") for key in self.arrays if key.startswith("init/")}
        assert set(found) == theirs
        return found

    def features(self, view) -> None:
        """Unit features of both towers and logits in training mode; KDPL and FDBPL list the classes in an order of
        their own."""
        outputs = self.trainer.train_student.outputs(view)
        count = len(self.settings["classes"])
        order = self.arrays.get("fwd/class_indices", torch.arange(count)).long()
        logits = self.arrays.get("fwd/logits_class_order", self.arrays["fwd/logits"])
        self.agree("features", outputs.image_features, self.arrays["fwd/image_features"], self.method)
        if "fwd/text_features" in self.arrays:
            theirs = self.arrays["fwd/text_features"]
            text = outputs.text_features[0] if outputs.text_features.dim() == 3 else outputs.text_features
            self.agree("features", text[order], theirs.reshape(text.shape), self.method)
        self.agree("logits", outputs.logits, logits, self.method)

    def losses(self, view, names: dict[str, str]) -> None:
        """Compare each of our losses with the official array of the given name; "total" is the sum."""
        terms = self.trainer.compute_losses(view)
        for ours, theirs in names.items():
            value = sum(terms.values()) if ours == "total" else terms[ours]
            self.agree("losses", value, self.arrays[f"loss/{theirs}"].reshape(()), f"{self.method} {ours}")

    def training(self, gradients: float = 1e-5, logits: float = 1e-5) -> None:
        """Compare gradients, parameters after 1 and 3 steps, evaluations before and after, and new classes."""
        images = self.pack.inputs["eval_images"]
        self.evaluate(self.trainer, images, "eval/base_logits_init")
        for step in self.steps():
            for name, parameter in self.parameters().items():
                where = f"{self.method} {name}"
                if step == 1 and name in ZERO_BY_THE_MATHS:
                    weight_grad = dict(self.parameters())[name.replace("bias", "weight")].grad
                    assert parameter.grad.abs().max() < 1e-4 * weight_grad.abs().max(), where
                elif step == 1:
                    self.agree("gradients", parameter.grad, self.arrays[f"grad/{name}"], where, gradients)
                if f"step{step}/{name}" in self.arrays:
                    self.agree("parameters", parameter, self.arrays[f"step{step}/{name}"], f"{where} step {step}")
        self.evaluate(self.trainer, images, "eval/base_logits", logits)
        if "eval/new_logits" in self.arrays:  # a model of other classes loads the checkpoint of the trained run
            self.evaluate(self.reloaded(self.settings["new_classes"]), images, "eval/new_logits", logits)

    def steps(self) -> Iterator[int]:
        """Repeat the official run's steps on its batch; yield their numbers from 1."""
        recorded = [int(key[4:].partition("/")[0]) for key in self.arrays if re.match(r"step\d+/", key)]
        for step in range(1, max(recorded) + 1):
            self.trainer.epoch, self.trainer.batch_idx = 0, step - 1
            self.trainer.set_model_mode("train")
            self.trainer.forward_backward(self.batch)
            yield step

    def reloaded(self, classes: list[str]):
        """Return a trainer of other classes with the checkpoint of the trained run."""
        self.trainer.save_model(0, self.trainer.output_dir)
        other = self.make(classes)
        other.load_model(self.trainer.output_dir, epoch=1)
        return other

    @torch.no_grad()
    def evaluate(self, trainer, images: torch.Tensor, key: str, tolerance: float = 1e-5) -> None:
        trainer.set_model_mode("eval")
        logits = trainer.predictor()(images)
        self.agree("logits", logits, self.arrays[key], f"{self.method} {key}", tolerance)


@pytest.fixture
def compare(request, pack, build, agree, method) -> Comparison:
    settings = pack.settings(method)
    return Comparison(method, pack.arrays(method), settings, pack.batch(settings), build, agree, pack)


@pytest.fixture
def agree():
    """Return agree(group, ours, theirs), which checks the tolerances and records the largest deviation by group."""

    def check(
        group: str, ours: torch.Tensor, theirs: torch.Tensor, where: str = "", tolerance: float | None = None
    ) -> None:
        ours, theirs = ours.detach().double(), theirs.double()
        assert ours.shape == theirs.shape, f"{group} {where}: shape {tuple(ours.shape)} != {tuple(theirs.shape)}"
        largest = float((ours - theirs).abs().max())
        size = float(theirs.abs().max())
        if group == "parameters":
            scaled, limit = largest, 1e-6
        elif group == "gradients":
            scaled, limit = largest / max(size, 1e-12), (tolerance or 1e-5) + 1e-6 / max(size, 1e-12)
        else:
            scaled, limit = largest / max(1.0, size), tolerance or 1e-5
        means_something = size > 1e-5 or group != "gradients"  # some are mathematically zero
        if means_something and scaled > DEVIATIONS.get(group, (-1.0, ""))[0]:
            DEVIATIONS[group] = (scaled, where)
        assert scaled <= limit, f"{group} {where}: deviation {scaled:.2e} > {limit:.2e}"

    return check


def pytest_terminal_summary(terminalreporter) -> None:
    if DEVIATIONS:
        terminalreporter.section("largest deviation from the official numbers")
        for group, (value, where) in sorted(DEVIATIONS.items()):
            terminalreporter.write_line(f"{group:12s} {value:.1e}  {where}")
