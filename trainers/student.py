"""What a student offers a trainer: something to learn, and logits from it. One file per student subclasses this."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.prompts import Prompts

from .supervision.view import View


class Student(nn.Module):
    """A frozen CLIP and what is learnt around it.

    Args:
        settings: the method's node of the configuration, e.g. `cfg.TRAINER.COOP`; PREC is read here.
        backbone: frozen OpenAI CLIP on its device.
        classnames: C class names, in the order of the labels.
    """

    node = ""  # cfg.TRAINER.<node> holds the settings
    frozen_image_tower = True  # looked-up features serve only where the image tower learns nothing

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str]):
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        self.classnames = list(classnames)

    def learners(self) -> dict[str, nn.Module]:
        """Modules to train and to keep; the names are those of the checkpoint folders."""
        raise NotImplementedError

    def text_features(self, *others: Prompts) -> list[Tensor]:
        """Unit class features [C, D] in float32: the student's own, then those of `others` by the same text tower."""
        raise NotImplementedError

    def image_features(self, view: View) -> Tensor:
        """Unit image features [B, D] in float32: looked up where the view carries them, else by the frozen tower."""
        if view.image_features is not None:
            return view.image_features
        with self.autocast():
            return self.backbone.encode_image(view.images)

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Scaled cosines [B, C] in float32."""
        return self.backbone.logit_scale * image_features @ text_features.T

    def own_terms(self) -> dict[str, Tensor]:
        """Loss terms of the method that no supervision knows (KgCoOp's pull, PromptSRC's regularisers)."""
        return {}

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Images [B, 3, S, S] -> logits [B, C]; the class features are computed once, here."""
        text_features = self.text_features()[0]
        return lambda images: self.logits(self.image_features(View(images=images)), text_features)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> logits [B, C]."""
        return self.logits(self.image_features(View(images=images)), self.text_features()[0])

    def autocast(self) -> AbstractContextManager:
        """float16 autocast under PREC amp, nothing otherwise. Losses stay outside, in float32."""
        return torch.autocast("cuda", torch.float16, enabled=self.settings.PREC == "amp")
