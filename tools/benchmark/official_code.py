"""The official code of KDPL and of FDBPL's release as variants, from checkouts of their repositories.

Nothing of a checkout is copied: its trainer class builds its model by its own `build_model` and takes steps by its own
`forward_backward`, with CLIPs of its own `clip/model.py` that share our random weights. Only these are different:

* Dassl's constructor is left out, which would load a data set, and the weights are not downloaded.
* `.cuda()` does nothing on a CPU while the model is built, where the teacher's class names are encoded.
* open_clip and pandas are replaced by empty modules: the code imports them, but a step does not use them.
"""

import contextlib
import importlib
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.backbones.random_init import ARCHITECTURES
from fdbpl.errors import UserError

DESIGN = {"trainer": "CoOp", "vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0}
SHADOWED = ("trainers", "clip")  # packages of a checkout whose names other packages here have
UNUSED = ("open_clip", "pandas")


class OfficialCode(NamedTuple):
    """Place of a trainer in a repository: folder of the packages, module, and class."""

    folder: str
    module: str
    trainer: str

    def file(self, checkout: Path) -> Path:
        return checkout / self.folder / f"{self.module.replace('.', '/')}.py"


CODE = {
    "kdpl": OfficialCode("src", "trainers.coop_kdpl", "CoOp_KDPL"),
    "fdbpl": OfficialCode("", "trainers.coop_off", "CoOp_OFF"),
}


def describe(checkouts: Mapping[str, Path]) -> dict[str, str]:
    """Return the commits of the checkouts by name; "unknown" without Git.

    Raises:
        UserError: the folder is not a checkout of that repository.
    """
    for name, checkout in checkouts.items():
        if not CODE[name].file(checkout).is_file():
            raise UserError(f"--{name} {checkout} has no {CODE[name].file(Path())}. Give a checkout of the repository.")
    return {name: _commit(checkout) for name, checkout in checkouts.items()}


class OfficialCodeStep:
    """A step of an official trainer that decodes its regions from the image files.

    Args:
        trainer: the result of `build`.
        models: backbones whose weights the trainer shares, the student first.
        decode: returns the regions' pixels, uint8 [B, 3, S, S].
        labels: other tensors of the batch by name.
    """

    def __init__(self, trainer, models: list[Backbone], decode: Callable[[], Tensor], labels: dict[str, Tensor]):
        self.trainer, self.models, self.decode, self.labels = trainer, models, decode, labels

    def prepare(self) -> None:
        """Do nothing; `step` does all work."""

    def step(self) -> float:
        """Make one step and return the loss."""
        pixels = self.models[0].normalize(self.decode().to(self.trainer.device))
        return self.trainer.forward_backward({"img": pixels, **self.labels})["loss symmetric KL"]


def build(
    name: str, checkout: Path, cfg: CfgNode, classnames: list[str], student: Backbone, teacher: Backbone
) -> object:
    """Build an official trainer for its first step.

    Args:
        name: key of `CODE`.
        cfg: configuration of our trainer of the same method.
    """
    code = CODE[name]
    with _imports_from(checkout / code.folder):
        module, clip_model = importlib.import_module(code.module), importlib.import_module("clip.model")
    module.load_clip_to_cpu = lambda _: _official_clip(clip_model, student)  # type: ignore[attr-defined]
    module.load_teacher_to_cpu = lambda _: _official_clip(clip_model, teacher)  # type: ignore[attr-defined]
    from dassl.engine.trainer import TrainerBase

    trainer_class = getattr(module, code.trainer)
    trainer = trainer_class.__new__(trainer_class)
    TrainerBase.__init__(trainer)
    trainer.cfg, trainer.device = _official_cfg(cfg, student), student.device
    trainer.dm = SimpleNamespace(dataset=SimpleNamespace(classnames=classnames))
    trainer.batch_idx, trainer.num_batches = 0, 2  # not the last batch of an epoch, which changes the learning rate
    with contextlib.redirect_stdout(io.StringIO()), _cuda_on_cpu(student.device):
        trainer.build_model()
    trainer.set_model_mode("train")
    return trainer


def _official_cfg(cfg: CfgNode, student: Backbone) -> CfgNode:
    """Add the keys of the official code, which takes the teacher's template from the name of the data set."""
    cfg = cfg.clone()
    cfg.defrost()
    precision = "fp32" if student.dtype == torch.float32 else "fp16"
    cfg.DATASET.NAME = "Caltech101"  # "a photo of a {}."
    cfg.TRAINER.COOP.PREC = cfg.TRAINER.KDPL.PREC = precision
    cfg.TRAINER.KDPL.TEACHER = cfg.TEACHER.NAME
    return cfg


def _official_clip(clip_model: ModuleType, backbone: Backbone) -> nn.Module:
    """Return a checkout's own CLIP on the CPU with the weights of `backbone`, which it shares there."""
    embed, pixels, blocks, width, patch_size, *text = ARCHITECTURES[backbone.name.removeprefix("random:")]
    model = clip_model.CLIP(embed, pixels, blocks, width, patch_size, 77, 49408, *text, DESIGN)
    model.load_state_dict({key: value.cpu() for key, value in backbone.model.state_dict().items()}, assign=True)
    return model.eval()


@contextlib.contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Import from `folder` first; afterwards our own packages of the same names are as they were.

    Dassl's registry ignores the trainers, some of which have the names of ours.
    """
    from dassl.engine import TRAINER_REGISTRY

    ours = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in (*SHADOWED, *UNUSED)}
    sys.modules.update({name: ModuleType(name) for name in UNUSED})
    sys.path.insert(0, str(folder))
    try:
        with patch.object(TRAINER_REGISTRY, "register", lambda: lambda trainer: trainer):
            yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in (*SHADOWED, *UNUSED)]:
            del sys.modules[name]
        sys.modules.update(ours)


def _cuda_on_cpu(device: torch.device) -> contextlib.AbstractContextManager:
    """Let `.cuda()` return the tensor itself on a CPU."""
    if device.type == "cuda":
        return contextlib.nullcontext()
    return patch.object(Tensor, "cuda", lambda tensor, *_, **__: tensor)


def _commit(checkout: Path) -> str:
    if not (checkout / ".git").exists():
        return "unknown"
    run = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else "unknown"
