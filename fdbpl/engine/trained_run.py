"""A finished training run: its student with the trained parameters, and its predictions."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cached_property, partial
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.data.transforms import build_transform
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.errors import UserError
from fdbpl.io.image_batches import decoded
from fdbpl.io.image_reading import DISPLAYED, Decoding
from fdbpl.prompts import PromptLearner

from . import checkpoint
from .feature_cache import iterate_features
from .image_dataset import dataset_wrapper, decoding_of
from .run_inputs import tested_split
from .student import Classifier, Student, load_student_backbone
from .trained_run_records import TrainedRunRecords


class Classified(NamedTuple):
    """A batch of classified image files.

    Attributes:
        paths: the B readable files.
        logits: float32 [B, C] on the CPU, scaled.
        unreadable: (path, reason) of the other files.
        none: probability that a readable image shows none of the classes, if the run trained a prompt for it.
    """

    paths: list[str]
    logits: Tensor
    unreadable: list[tuple[str, str]]
    none: list[float] | None = None


class ImageFeatures(NamedTuple):
    """Features of test images.

    Attributes:
        features: unit, float32 [N, D], on the CPU.
        images: the N images (Dassl's Datum).
        dataset: their data set.
    """

    features: Tensor
    images: list
    dataset: Any


class TrainedRun(TrainedRunRecords):
    """The student of a finished training and its predictions; `TrainedRunRecords` reads the folder.

    Args:
        folder: the run folder.
        device: device of the CLIP. On a CPU, a run in float16 (PREC fp16, amp), or in bfloat16 that the CPU
            lacks, is loaded in float32.

    Raises:
        UserError: there is no finished training run, or this code does not know its settings.
    """

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen CLIP.

        Raises:
            UserError: its weights have changed since the training.
        """
        name, recorded = self.cfg.MODEL.BACKBONE.NAME, self._student_sha256
        backbone = load_student_backbone(name, str(self.device), self._settings.PREC)
        if recorded is None:
            print(f"{self.folder} has no hash of the weights of {name}, so they are not compared", file=sys.stderr)
        elif recorded != backbone.sha256:
            raise UserError(
                f"The weights of {name} have changed since the run in {self.folder} was trained with them (SHA-256 "
                f"{recorded:.12}, now {backbone.sha256:.12}); restore that file, or train again"
            )
        return backbone

    def student(self, classnames: list[str] | None = None, template: str | None = None) -> Student:
        """Return the student with the trained parameters, in eval mode.

        Args:
            classnames: C class names; None = those of the training.
            template: prompt template for frozen texts; None = that of the training.

        Raises:
            UserError: trained parameters or contexts (CSC) are class-specific and these are other classes; a checkpoint
                is missing, broken or of another method.
        """
        names, template = classnames or self.classnames, template or self.template
        teacher_features = partial(self._teacher_features, template)
        student = self.trainer_class.new_student(self.cfg, self.backbone, names, template, teacher_features)
        student.matching = self.trainer_class.relation_matching(self.cfg, self.folder, teacher_features)
        if student.class_specific and names != self.classnames:
            raise UserError(
                f"The run in {self.folder} trained parameters of its own {len(self.classnames)} classes, which other "
                "classes cannot use. Leave the class names out"
            )
        for name, module in student.trainable_modules().items():
            self._restore(module, name, student.ignored_keys)
        return student.to(self.device).eval().requires_grad_(False)

    def negative_prompt_learner(self, classnames: list[str] | None = None) -> PromptLearner | None:
        """Return FDBPL's negative prompt space; None for other trainers and students without text prompts."""
        return self.prompt_spaces(classnames).get("negative_prompt_learner")

    def prompt_spaces(self, classnames: list[str] | None = None) -> dict[str, PromptLearner]:
        """Return the prompts that were trained next to the student's, by module; {} for trainers other than FDBPL's."""
        spaces = self.trainer_class.new_prompt_spaces(self.cfg, self.backbone, classnames or self.classnames)
        for name, learner in spaces.items():
            self._restore(learner, name)
            learner.to(self.device).eval().requires_grad_(False)
        return spaces

    def contexts(self) -> dict[str, Tensor]:
        """Return the learned context vectors of the text tower's input by module, float32 [M, d] or [C, M, d] (CSC)."""
        modules = {**self.student().trainable_modules(), **self.prompt_spaces()}
        learners = {
            name: learner
            for name, module in modules.items()
            for learner in module.modules()
            if isinstance(learner, PromptLearner)
        }
        return {name: learner.ctx.detach().float() for name, learner in learners.items()}

    def test_features(self, cfg: CfgNode | None = None) -> ImageFeatures:
        """Compute the features of test images, or read them from the cache.

        Args:
            cfg: as from `data_config`; None = that of the run.

        Raises:
            UserError: the files of the data set are missing.
        """
        cfg = cfg or self.data_config()
        dataset = build_dataset(cfg)
        images = getattr(dataset, tested_split(cfg, dataset))
        loader = build_data_loader(
            cfg, data_source=images, batch_size=cfg.DATALOADER.TEST.BATCH_SIZE, tfm=self.transform, is_train=False,
            dataset_wrapper=dataset_wrapper(cfg),
        )  # fmt: skip
        with torch.no_grad():
            batches = iterate_features(cfg, self.student(), loader, lambda batch: (batch["img"], batch["label"]))
            features = torch.cat([features.cpu() for features, _ in batches])
        return ImageFeatures(features, list(images), dataset)

    def classify_features(
        self, features: Tensor, classnames: list[str] | None = None, template: str | None = None
    ) -> Tensor:
        """Logits, float32 [N, C], of the unit features [N, D] of `test_features`; other arguments as for `student`."""
        with torch.no_grad():
            classify = self._classifier(self.student(classnames, template), classnames)
            batches = features.to(self.device).split(self.cfg.DATALOADER.TEST.BATCH_SIZE)
            return torch.cat([classify(batch).float().cpu() for batch in batches])

    def _classifier(self, student: Student, classnames: list[str] | None) -> Classifier:
        return self.trainer_class.classifier_of(self.cfg, student, self.negative_prompt_learner(classnames))

    def predictor(self, classnames: list[str] | None = None, with_none: bool = False) -> Callable[[Tensor], Tensor]:
        """Return the function of the run's test: images [B, 3, S, S] from `transform` -> logits, float32 [B, C].

        Args:
            with_none: append the logit of FDBPL's prompt "none of these", if the run trained one: [B, C + 1].
        """
        with torch.no_grad():
            student = self.student(classnames)
            classify = self._classifier(student, classnames)
            none = self.prompt_spaces(classnames).get("none_prompt_learner") if with_none else None
            if none is None:
                return torch.no_grad()(student.predictor(classify))
            (f_none,) = student.encode(none())
            return torch.no_grad()(
                student.predictor(lambda x: torch.cat([classify(x), student.logits(x, f_none)], dim=-1))
            )

    def classify(
        self,
        paths: list[str],
        classnames: list[str] | None = None,
        batch_size: int = 0,
        decoding: Decoding | None = None,
    ) -> Iterator[Classified]:
        """Classify image files in order, batch by batch, as the run's test does.

        Args:
            classnames: C class names; None = those of the training.
            batch_size: 0 = that of the run's test.
            decoding: None = the run's `decoding`.

        Raises:
            UserError: the run cannot serve these class names, or a logit is NaN or infinite.
        """
        predict, count = self.predictor(classnames, with_none=True), len(classnames or self.classnames)
        warnings.filterwarnings("ignore", module="PIL")  # about unusual but readable files
        batches = decoded(
            paths, self.transform, batch_size or self.cfg.DATALOADER.TEST.BATCH_SIZE, side=max(self.cfg.INPUT.SIZE),
            decoding=decoding or self.decoding,
        )  # fmt: skip
        empty = torch.empty(0, count)
        for readable, images, unreadable in batches:
            logits = empty if images is None else predict(images).float().cpu()
            if not logits.isfinite().all():
                raise UserError(f"the logits of the run in {self.folder} contain NaN or Inf; train it again")
            none = logits.softmax(dim=-1)[:, count].tolist() if logits.shape[1] > count else None
            yield Classified(readable, logits[:, :count], unreadable, none)

    @property
    def decoding(self) -> Decoding:
        """Decoding of images to classify: that of the training if it used custom data, else as displayed."""
        return decoding_of(self.cfg) if self.cfg.DATASET.NAME == "Folder" else DISPLAYED

    @cached_property
    def transform(self) -> Callable:
        """Dassl's transform of test images: PIL image in RGB -> float32 [3, S, S]."""
        with redirect_stdout(StringIO()):  # Dassl prints the transform
            return build_transform(self.cfg, is_train=False)

    def _restore(self, module: nn.Module, name: str, ignored: tuple[str, ...] = ()) -> None:
        path = checkpoint.find_checkpoint(self.folder / name, None)
        checkpoint.restore(module, checkpoint.read(path)["state_dict"], path, ignored)

    def _teacher_features(self, template: str, classnames: list[str]) -> Tensor:
        """Return unit class features of the run's teacher, float32 [C, D of the teacher]."""
        dataset = SimpleNamespace(classnames=classnames, template=template)
        supervision = self.trainer_class.supervision_class
        return supervision.class_features(
            self.cfg, dataset, classnames, lambda: supervision.load_teacher(self.cfg, dataset, self.device)
        )


def load_run(folder: str | Path, device: str | torch.device = "cpu") -> TrainedRun:
    """Load a finished training run (see `TrainedRun`).

    Raises:
        UserError: there is no finished training run, or this code does not know its settings.
    """
    return TrainedRun(folder, device)
