"""What a student offers a trainer: something to learn, and logits from it. One file per student subclasses this."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.backbones.openai import for_autocast
from fdbpl.distributed import gather, shard, world_size
from fdbpl.errors import UserError
from fdbpl.prompts import Prompts, encode_images, encode_prompt_sets
from fdbpl.templates import fill_template

from .batch import View
from .templates import DEFAULT_TEMPLATE

Scorer = Callable[[Tensor], Tensor]  # unit image features [B, D] -> logits [B, C]
AUTOCAST = {"amp": torch.float16, "bf16": torch.bfloat16}  # PREC: the dtype of autocast


class Outputs(NamedTuple):
    """What a student says of a batch of B images about C classes.

    Attributes:
        image_features: unit, float32 [B, D].
        text_features: unit, float32 [C, D], or [B, C, D] where they depend on the image.
        logits: float32 [B, C].
        classes: int64 [C], which of the student's classes these are; None = all of them.
    """

    image_features: Tensor
    text_features: Tensor
    logits: Tensor
    classes: Tensor | None = None


class Student(nn.Module):
    """A frozen CLIP and what is learnt around it.

    Args:
        settings: the method's node of the configuration, e.g. `cfg.TRAINER.COOP`; PREC is read here.
        backbone: frozen OpenAI CLIP on its device.
        classnames: C class names, in the order of the labels.
        template: the data set's sentence around a class name.
    """

    node = ""  # cfg.TRAINER.<node> holds the settings
    frozen_image_tower = True  # nothing is learnt in the image tower: a region's feature is a constant
    compares_with_frozen_images = False  # True: training reads the frozen image tower's features beside its own
    ignored_keys: tuple[str, ...] = ()  # parameters of official checkpoints that nothing reads
    keeps_teacher_features = False  # True: its class features are the teacher's, in tests as well (PromptKD)
    serves_as_teacher = True  # False where class features need more than the class names (CoCoOp, PromptKD)
    text_follows_image = False  # True: every image has class features of its own (CoCoOp)
    learns_text = True  # False: nothing in the text tower is learnt, so there are no prompt spaces
    text_chunk = 0  # prompts that pass the text tower at a time (MODEL.TEXT_CHUNK); 0 = all

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], template: str = DEFAULT_TEMPLATE):
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        self.classnames = list(classnames)
        self.template = template

    # what a method defines --------------------------------------------------------------------------------------

    def learners(self) -> dict[str, nn.Module]:
        """Modules to train and to keep; the names are those of the checkpoint folders."""
        raise NotImplementedError

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        """The prompts of all classes; those of CoCoOp depend on the image features."""
        raise NotImplementedError

    def image_prompts(self) -> list[Tensor]:
        """Visual prompts of the input and of the blocks 1, 2, ...; none: the image tower is left as it is."""
        return []

    def prepare(self) -> None:
        """Called once before training: the place for what only training reads."""

    def image_tensors(self) -> dict[str, Tensor]:
        """What image features need beyond CLIP's own tower, by name: for use outside of this toolbox."""
        return {f"visual_prompts.{block}": prompts for block, prompts in enumerate(self.image_prompts())}

    def own_terms(self, view: View, outputs: Outputs) -> dict[str, Tensor]:
        """Loss terms of the method that no supervision knows (KgCoOp's pull, PromptSRC's regularisers)."""
        return {}

    # what follows from it ---------------------------------------------------------------------------------------

    def text_features(
        self, *others: Prompts, image_features: Tensor | None = None, classes: Tensor | None = None
    ) -> list[Tensor]:
        """Unit class features in float32: the student's own, [C, D] or [B, C, D], then those of `others`.

        Args:
            others: further prompt spaces for the same text tower, in one pass with the own one where that is possible.
            classes: which of the own classes, int64 [K]; None = all.
        """
        own = self.prompts(image_features)
        return self.encode(own if classes is None else own.select(classes), *others)

    def encode(self, *spaces: Prompts) -> list[Tensor]:
        """Unit class features of prompt spaces that need not be the student's: float32 [C, D] each."""
        with self.autocast():
            encoded = encode_prompt_sets(self.backbone.model, *map(share_of_classes, spaces), chunk=self.text_chunk)
        whole = [gather(features.float(), len(space.eot), -2) for features, space in zip(encoded, spaces, strict=True)]
        return [F.normalize(features, dim=-1) for features in whole]

    def image_features(self, view: View) -> Tensor:
        """Unit image features [B, D] in float32: looked up where the view carries them, else by the image tower."""
        if self.frozen_image_tower:
            return self.frozen_image_features(view)
        return F.normalize(self.prompted_image_features(view), dim=-1)

    def prompted_image_features(self, view: View) -> Tensor:
        """Features [B, D] of the image tower with its prompts, float32, not normalised."""
        with self.autocast():
            features = encode_images(self.backbone.model, self.backbone.prepare(view.images), self.image_prompts())
        return gather_images(features.float(), view)

    def frozen_image_features(self, view: View) -> Tensor:
        """Unit features [B, D] of the image tower as it was."""
        if view.image_features is not None:
            return view.image_features
        with self.autocast():
            features = self.backbone.encode_image(view.images)
        return gather_images(features, view)

    def frozen_text_features(self, template: str) -> Tensor:
        """Unit features [C, D] of the classes in a template, without anything learnt."""
        with self.autocast():
            return self.backbone.encode_text(fill_template(template, self.classnames))

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Scaled cosines [B, C] in float32."""
        if text_features.dim() == 3:
            return self.backbone.logit_scale * (text_features @ image_features[..., None])[..., 0]
        return self.backbone.logit_scale * image_features @ text_features.T

    def outputs(self, view: View, classes: Tensor | None = None) -> Outputs:
        """Everything of a batch, about all classes or about `classes`, int64 [K]."""
        image_features = self.image_features(view)
        (text_features,) = self.text_features(image_features=image_features, classes=classes)
        return Outputs(image_features, text_features, self.logits(image_features, text_features), classes)

    def scorer(self) -> Scorer:
        """Image features [B, D] -> logits [B, C]; class features that do not depend on the image are computed once."""
        (text_features,) = self.text_features()
        return lambda image_features: self.logits(image_features, text_features)

    def predictor(self, score: Scorer | None = None) -> Callable[[Tensor], Tensor]:
        """Images [B, 3, S, S] -> logits [B, C], by `score` or by the student's own scorer."""
        score = score or self.scorer()
        return lambda images: score(self.image_features(view_of(images)))

    def for_classes(self, classnames: list[str]) -> "Student":
        """The same prompts before other class names: what is learnt is shared, not copied.

        Raises:
            UserError: each class has a context of its own.
        """
        if any(getattr(module, "class_specific", False) for module in self.learners().values()):
            raise UserError(
                f"expected TRAINER.{self.node}.CSC False with TRAINER.KDPL.CLASS_AGNOSTIC, whose words are not the "
                "classes that the contexts belong to, found True; leave one of them out"
            )
        other = type(self)(self.settings, self.backbone, classnames, self.template).to(self.backbone.device)
        other.text_chunk = self.text_chunk
        for name, module in self.learners().items():
            for path, parameter in module.named_parameters():
                owner, _, last = path.rpartition(".")
                other.learners()[name].get_submodule(owner)._parameters[last] = parameter
        return other

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] -> logits [B, C]."""
        return self.outputs(view_of(images)).logits

    def autocast(self) -> AbstractContextManager:
        """Autocast under PREC amp and bf16, nothing otherwise. Losses stay outside, in float32."""
        half = AUTOCAST.get(self.settings.PREC)
        return torch.autocast(self.backbone.device.type, half or torch.bfloat16, enabled=half is not None)


def load_student_backbone(name: str, device: str, precision: str) -> Backbone:
    """The frozen CLIP of a student with PREC `precision`; that of amp and bf16 only works inside `Student.autocast`."""
    backbone = load_backbone(name, device, "fp16" if precision == "fp16" else "fp32")
    return for_autocast(backbone, AUTOCAST[precision]) if precision in AUTOCAST else backbone


def view_of(images: Tensor) -> View:
    """A view of images [B, 3, S, S] and nothing else."""
    return View(images=shard(images), total=len(images))


def gather_images(features: Tensor, view: View) -> Tensor:
    """Features of all images of a batch from those of this process's share."""
    return features if view.total is None else gather(features, view.total)


def share_of_classes(space: Prompts) -> Prompts:
    """The prompts of this process's share of the classes."""
    if world_size() == 1:
        return space
    return space.select(shard(torch.arange(len(space.eot))))
