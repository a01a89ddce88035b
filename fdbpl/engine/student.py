"""The student: a frozen CLIP with trainable prompts. One file per method in `trainers/` subclasses `Student`."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
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

from .batch import TrainBatch
from .relation_matching import RelationMatching, choose_weight, mix
from .templates import DEFAULT_TEMPLATE

Classifier = Callable[[Tensor], Tensor]  # unit image features [B, D] -> logits [B, C]
AUTOCAST = {"amp": torch.float16, "bf16": torch.bfloat16}  # PREC: the dtype of autocast


class StudentOutput(NamedTuple):
    """Model outputs for a batch of B images and C classes.

    Attributes:
        image_features: unit, float32 [B, D].
        text_features: unit, float32 [C, D], or [B, C, D] if they depend on the image.
        logits: float32 [B, C].
        classes: int64 [C], indices of these classes in the student's class list; None = all classes.
    """

    image_features: Tensor
    text_features: Tensor
    logits: Tensor
    classes: Tensor | None = None


class Student(nn.Module):
    """A frozen CLIP and the parameters that are trained around it.

    Args:
        settings: the method's section of the configuration, e.g. `cfg.TRAINER.COOP`; PREC is read here.
        backbone: frozen CLIP on its device.
        classnames: C class names, in the order of the labels.
        template: the data set's prompt template.
    """

    cfg_key = ""  # cfg.TRAINER.<cfg_key> holds the settings
    frozen_image_tower = True  # no prompts in the image tower: the feature of a region is a constant
    compares_with_frozen_images = False  # True: training also reads the features of the frozen image tower
    ignored_keys: tuple[str, ...] = ()  # prefixes of unused parameters in official checkpoints
    uses_teacher_features = False  # True: the class features are the teacher's, in tests as well (PromptKD)
    serves_as_teacher = True  # False if class features need more than class names (CoCoOp, PromptKD)
    text_follows_image = False  # True: the class features depend on the image (CoCoOp)
    class_specific = False  # True: trains parameters with one row per class, which serve the training classes only
    learns_text = True  # False: nothing is trained in the text tower
    text_chunk = 0  # prompts that pass the text tower at a time (MODEL.TEXT_CHUNK); 0 = all
    frozen_text_weight = 0.0  # mu of the class features t + mu t_frozen of a test (TRAINER.FDBPL.FROZEN_TEXT_WEIGHT)
    matching: RelationMatching | None = None  # chooses mu for classes that were not trained (TEACHER.MATCH_RELATIONS)

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], template: str = DEFAULT_TEMPLATE):
        super().__init__()
        self.settings = settings
        self.backbone = backbone
        self.classnames = list(classnames)
        self.template = template

    # Defined by a method ----------------------------------------------------------------------------------------

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return the modules to train and to save, by the names of their checkpoint folders."""
        raise NotImplementedError

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        """Return the prompts of all classes; those of CoCoOp depend on the image features."""
        raise NotImplementedError

    def image_prompts(self) -> list[Tensor]:
        """Return visual prompts for the input and for blocks 1, 2, ...; [] leaves the image tower unchanged."""
        return []

    def on_train_start(self) -> None:
        """Prepare what only training needs. Called once before training."""

    def image_tensors(self) -> dict[str, Tensor]:
        """Return tensors by name that image features need in addition to CLIP's image tower, for exports."""
        return {f"visual_prompts.{block}": prompts for block, prompts in enumerate(self.image_prompts())}

    def regularization_losses(self, batch: TrainBatch, output: StudentOutput) -> dict[str, Tensor]:
        """Return the method's own weighted losses, which are added to those of the supervision (KgCoOp, PromptSRC)."""
        return {}

    # Derived from it --------------------------------------------------------------------------------------------

    def text_features(
        self, *others: Prompts, image_features: Tensor | None = None, classes: Tensor | None = None
    ) -> list[Tensor]:
        """Return unit class features in float32: the student's own, [C, D] or [B, C, D], then those of `others`.

        Args:
            others: further sets of prompts, encoded in the same pass of the text tower if possible.
            classes: indices of the student's classes to encode, int64 [K]; None = all.
        """
        own = self.prompts(image_features)
        return self.encode(own if classes is None else own.select(classes), *others)

    def encode(self, *prompt_sets: Prompts) -> list[Tensor]:
        """Return unit class features of any sets of prompts, float32 [C, D] each."""
        with self.autocast():
            encoded = encode_prompt_sets(self.backbone.model, *map(_shard_classes, prompt_sets), chunk=self.text_chunk)
        features = [
            gather(part.float(), len(prompts.eot), -2) for part, prompts in zip(encoded, prompt_sets, strict=True)
        ]
        return [F.normalize(value, dim=-1) for value in features]

    def image_features(self, batch: TrainBatch) -> Tensor:
        """Return unit image features [B, D] in float32: looked up if the batch contains them, else computed."""
        if self.frozen_image_tower:
            return self.frozen_image_features(batch)
        return F.normalize(self.prompted_image_features(batch), dim=-1)

    def prompted_image_features(self, batch: TrainBatch) -> Tensor:
        """Return the features [B, D] of the image tower with its prompts, float32, not normalised."""
        assert batch.images is not None
        with self.autocast():
            images = self.backbone.prepare(batch.images)
            features = encode_images(self.backbone.model, images, self.image_prompts())
        return _gather_images(features.float(), batch)

    def frozen_image_features(self, batch: TrainBatch) -> Tensor:
        """Return unit features [B, D] of the frozen image tower without prompts."""
        if batch.image_features is not None:
            return batch.image_features
        assert batch.images is not None
        with self.autocast():
            features = self.backbone.encode_image(batch.images)
        return _gather_images(features, batch)

    def frozen_text_features(self, template: str) -> Tensor:
        """Return unit class features [C, D] of a template, without trained parameters."""
        with self.autocast():
            return self.backbone.encode_text(fill_template(template, self.classnames))

    def classifier_features(self, image_features: Tensor | None = None) -> Tensor:
        """Return the unit class features of a test, [C, D] or [B, C, D]: t, or the normalised t + mu t_frozen."""
        (features,) = self.text_features(image_features=image_features)
        if self.frozen_text_weight:
            features = mix(features, self._template_features, self.frozen_text_weight)
        return features if self.matching is None else self._match(features, self.matching)

    def _match(self, features: Tensor, matching: RelationMatching) -> Tensor:
        """Return class features [C, D] with the chosen share of the frozen ones for classes that were not trained."""
        untrained = matching.untrained(self.classnames)
        if not any(untrained):
            return features
        others = [name for name, new in zip(self.classnames, untrained, strict=True) if new]
        both = self.with_classes([*matching.trained, *others])
        teacher = matching.teacher(both.classnames).to(features.device)
        rows = torch.arange(len(teacher), device=features.device) >= len(matching.trained)
        frozen = both.frozen_text_features(self.template)
        weight = choose_weight(both.text_features()[0], frozen, teacher, rows)
        matching.chosen = len(others), weight
        mask = torch.tensor(untrained, device=features.device)[:, None]
        return torch.where(mask, mix(features, self._template_features, weight), features)

    @cached_property
    def _template_features(self) -> Tensor:
        return self.frozen_text_features(self.template)

    def logits(self, image_features: Tensor, text_features: Tensor) -> Tensor:
        """Return scaled cosines [B, C] in float32."""
        if text_features.dim() == 3:
            return self.backbone.logit_scale * (text_features @ image_features[..., None])[..., 0]
        return self.backbone.logit_scale * image_features @ text_features.T

    def outputs(self, batch: TrainBatch, classes: Tensor | None = None) -> StudentOutput:
        """Return features and logits of a batch for all classes or for `classes`, int64 [K]."""
        image_features = self.image_features(batch)
        (text_features,) = self.text_features(image_features=image_features, classes=classes)
        return StudentOutput(image_features, text_features, self.logits(image_features, text_features), classes)

    def build_classifier(self) -> Classifier:
        """Return a function from image features [B, D] to logits [B, C] that encodes the class names only once."""
        text_features = self.classifier_features()
        return lambda image_features: self.logits(image_features, text_features)

    def predictor(self, classifier: Classifier | None = None) -> Callable[[Tensor], Tensor]:
        """Return a function from images [B, 3, S, S] to logits [B, C], with the student's own classifier by default."""
        classify = classifier or self.build_classifier()
        return lambda images: classify(self.image_features(batch_from_images(images)))

    def with_classes(self, classnames: list[str]) -> "Student":
        """Return a student with other class names that shares (does not copy) the trainable parameters.

        Raises:
            UserError: parameters or contexts (CSC) are class-specific.
        """
        if self.class_specific:
            raise UserError(
                f"TRAINER.{self.cfg_key} trains parameters of the training classes, which do not fit the words of a "
                "vocabulary. Leave TRAINER.KDPL.CLASS_AGNOSTIC and TRAINER.FDBPL.VOCABULARY out"
            )
        if any(getattr(module, "class_specific", False) for module in self.trainable_modules().values()):
            raise UserError(
                f"TRAINER.{self.cfg_key}.CSC True cannot be combined with a vocabulary (TRAINER.KDPL.CLASS_AGNOSTIC, "
                "TRAINER.FDBPL.VOCABULARY): contexts of the training classes do not fit its words. Leave one out"
            )
        other = type(self)(self.settings, self.backbone, classnames, self.template).to(self.backbone.device)
        other.text_chunk, other.frozen_text_weight = self.text_chunk, self.frozen_text_weight
        for name, module in self.trainable_modules().items():
            for path, parameter in module.named_parameters():
                owner, _, last = path.rpartition(".")
                other.trainable_modules()[name].get_submodule(owner)._parameters[last] = parameter
        return other

    def forward(self, images: Tensor) -> Tensor:
        """Map images [B, 3, S, S] to logits [B, C]."""
        return self.predictor()(images)

    def autocast(self) -> AbstractContextManager:
        """Return the autocast context of PREC amp and bf16. Losses are computed outside of it, in float32."""
        half = AUTOCAST.get(self.settings.PREC)
        return torch.autocast(self.backbone.device.type, half or torch.bfloat16, enabled=half is not None)


def load_student_backbone(name: str, device: str, precision: str) -> Backbone:
    """Load the frozen CLIP of a student with PREC `precision`; for amp and bf16 use it only in `Student.autocast`."""
    backbone = load_backbone(name, device, "fp16" if precision == "fp16" else "fp32")
    return for_autocast(backbone, AUTOCAST[precision]) if precision in AUTOCAST else backbone


def batch_from_images(images: Tensor) -> TrainBatch:
    """Return a batch of images [B, 3, S, S] only."""
    return TrainBatch(images=shard(images), total=len(images))


def _gather_images(features: Tensor, batch: TrainBatch) -> Tensor:
    """Gather the features of the whole batch from those of each process's share."""
    return features if batch.total is None else gather(features, batch.total)


def _shard_classes(prompts: Prompts) -> Prompts:
    """Select the prompts of this process's share of the classes."""
    if world_size() == 1:
        return prompts
    return prompts.select(shard(torch.arange(len(prompts.eot))))
