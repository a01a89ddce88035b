"""A finished prompt run as a teacher, as PromptKD's is (its own is a ViT-L/14 with PromptSRC's prompts)."""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, load_backbone, weights_sha256
from fdbpl.configuration import merge, read_yaml
from fdbpl.distributed import alone
from fdbpl.errors import UserError

from .. import checkpoint
from . import teacher
from .view import View


class TrainedTeacher(Backbone):
    """A CLIP with the prompts of a run: images go through its visual prompts, class names through its contexts.

    Args:
        name: run:<run folder>. template: of the data set that is taught; a method's frozen sentences use it.

    Raises:
        UserError: no finished run there, or one whose class features do not follow from the class names alone.
    """

    def __init__(self, name: str, template: str, device: str):
        self.folder, self.cfg, self.method = folder_of(name), read_config(name), method_of(name)
        settings = self.method.settings(self.cfg)
        # what was trained in float16 is read by a CPU in float32
        half = settings.PREC == "fp16" and torch.device(device).type == "cuda"
        clip = load_backbone(self.cfg.MODEL.BACKBONE.NAME, device, "fp16" if half else "fp32")
        super().__init__(**{**vars(clip), "name": name, "sha256": run_sha256(name) or _digest(clip.sha256, name)})
        self._clip, self._template = clip, template
        self._student = self._for(["class"])

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        with alone():
            return self._student.image_features(View(images=images))

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Unit features of class names (not sentences): float32 [C, D]."""
        with alone():
            return F.normalize(self._for(texts).text_features()[0], dim=-1)

    def _for(self, classnames: list[str]):
        """The run's student before these classes."""
        settings = self.method.settings(self.cfg)
        student = self.method.student_class(settings, self._clip, classnames, self._template).to(self._clip.device)
        for module_name, module in student.learners().items():
            path = checkpoint.choose(self.folder / module_name, None)
            checkpoint.restore(module, checkpoint.read(path)["state_dict"], path, student.ignored_keys)
        return student.eval().requires_grad_(False)


def folder_of(name: str) -> Path:
    folder = Path(name.removeprefix(teacher.RUN)).expanduser()
    if not (folder / "config.yaml").is_file() or not (folder / "done.json").is_file():
        raise UserError(
            f"expected a finished training run in {folder} (TEACHER.NAME {name}), found "
            f"{'an unfinished one' if folder.is_dir() else 'no such folder'}; give the folder that train.py wrote"
        )
    return folder


def read_config(name: str) -> CfgNode:
    """The configuration that the run was trained with, as far as a student needs it."""
    from dassl.config import get_cfg_default

    from .. import extend_cfg

    cfg, file = get_cfg_default(), str(folder_of(name) / "config.yaml")
    extend_cfg(cfg)
    merge(cfg, {key: value for key, value in read_yaml(file).items() if key.startswith(("MODEL.", "TRAINER."))}, file)
    return cfg


def method_of(name: str):
    """The run's trainer class."""
    from ..prompt_trainer import OURS

    trainer = read_config(name).TRAINER.NAME
    method = OURS.get(trainer)
    if method is None or not method.student_class.serves_as_teacher:
        raise UserError(
            f"expected a run whose class features follow from the class names alone as TEACHER.NAME, found one of "
            f"{trainer} in {folder_of(name)}; give one of CoOp, KgCoOp, ProGrad, TCP, VPT, IVLP, MaPLe, "
            "PromptSRC or their twins"
        )
    return method


def run_sha256(name: str) -> str | None:
    """Hex digest of a run's CLIP and of its checkpoints; None where only loading the CLIP tells."""
    method_of(name)  # refuses what cannot teach
    sha256 = weights_sha256(read_config(name).MODEL.BACKBONE.NAME)
    return None if sha256 is None else _digest(sha256, name)


def _digest(clip_sha256: str, name: str) -> str:
    """Of what was learnt, not of the files around it."""
    sha = hashlib.sha256(clip_sha256.encode())
    for folder in sorted(path.parent for path in folder_of(name).glob("*/checkpoint")):
        state = checkpoint.read(checkpoint.choose(folder, None))["state_dict"]
        for key in sorted(state):
            sha.update(key.encode())
            sha.update(state[key].cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
