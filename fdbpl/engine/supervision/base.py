"""Interface of a source of supervision."""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone

from ..bank_spec import BankSpec
from ..batch import TrainBatch
from ..student import Student, StudentOutput

TeacherLoader = Callable[[], Backbone]


class Loader(Protocol):
    """Batches of an epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[dict]: ...


class Supervision:
    """Reader of batches and losses of a student on them. It is built when training starts, never for a test.

    Args:
        cfg: the whole configuration.
        dataset: Dassl data set of the run (few-shot training images, class names, template).
        student: the student to train.
        device: device of the tensors.
        load_teacher: loads the teacher, or returns the one that is loaded already.

    Attributes:
        train_student: the student that the losses are computed for: `student`, or its prompts with other class names.
    """

    reads_bank = False  # True: a training needs a region bank
    has_teacher = False  # True: `load_teacher` and `class_features` are defined

    def __init__(self, cfg: CfgNode, dataset, student: Student, device: torch.device, load_teacher: TeacherLoader):
        self.cfg = cfg
        self.dataset = dataset
        self.device = device
        self.train_student = student

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        """Raise a UserError for settings that cannot work, before data or weights are loaded."""

    @classmethod
    def bank_spec(cls, cfg: CfgNode, dataset, student: Student | type[Student]) -> BankSpec | None:
        """Return the region bank that a training of `student` needs; None for a supervision without a bank."""
        return None

    @classmethod
    def teacher_precision(cls, cfg: CfgNode) -> str:
        """Return the precision that TEACHER.PREC stands for on this machine."""
        return "fp32" if cfg.TEACHER.PREC == "auto" else cfg.TEACHER.PREC  # without a teacher, it has no effect

    @classmethod
    def load_teacher(cls, cfg: CfgNode, dataset, device: torch.device) -> Backbone:
        """Load the teacher. Only a supervision with a teacher defines it."""
        raise NotImplementedError

    @classmethod
    def class_features(cls, cfg: CfgNode, dataset, classnames: list[str], load_teacher: TeacherLoader) -> Tensor:
        """Return the teacher's unit features of class names of the data set, float32 [C, D]; see `load_teacher`.

        Tests need them as well for PromptKD, and with TEACHER.MATCH_RELATIONS.
        """
        raise NotImplementedError

    def train_loader(self, loader: Loader) -> Loader:
        """Return the loader of the training batches; by default Dassl's `loader`."""
        return loader

    def set_epoch(self, epoch: int) -> None:
        """Prepare for an epoch, counted from 0."""

    def read(self, batch: dict) -> TrainBatch:
        """Convert a batch of the loader."""
        raise NotImplementedError

    def classes(self, batch: TrainBatch) -> Tensor | None:
        """Return the indices of the classes that the student scores, int64 [K]; None = all classes."""
        return None

    def losses(self, output: StudentOutput, batch: TrainBatch) -> dict[str, Tensor]:
        """Return the weighted losses of a batch by name, scalars in float32."""
        raise NotImplementedError
