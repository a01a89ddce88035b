"""What a supervision offers a trainer."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from yacs.config import CfgNode

from ..batch import View
from ..student import Outputs, Student


class Loader(Protocol):
    """Batches of an epoch, of which there are `len`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[dict]: ...


class Supervision:
    """Turns batches into views and views into loss terms.

    Args:
        cfg: the whole configuration.
        dataset: Dassl data set of the run (few-shot training images, class names, template).
        device: where tensors go.
    """

    def __init__(self, cfg: CfgNode, dataset, device: torch.device):
        self.cfg = cfg
        self.dataset = dataset
        self.device = device

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        """Refuse settings that cannot work, before data or weights are loaded."""

    @classmethod
    def region_bank_plan(cls, cfg: CfgNode, dataset, student: Student | type[Student]) -> dict | None:
        """Arguments of `fdbpl.regions.generate` for a student, or None for a supervision without a bank."""
        return None

    def train_loader(self, loader: Loader, student_class: type[Student]) -> Loader:
        """The loader to train from; by default Dassl's."""
        return loader

    @classmethod
    def load_class_features(cls, cfg: CfgNode, dataset, device: torch.device) -> Tensor:
        """The teacher's unit features of the data set's classes, float32 [C, D], outside of a training."""
        raise NotImplementedError

    def class_features(self) -> Tensor:
        """The teacher's unit features of the data set's classes, float32 [C, D]; only where there is a teacher."""
        raise NotImplementedError

    def prepare(self, student: Student) -> Student:
        """Called once before training, never before a mere test: the place for a teacher or a bank.

        Returns:
            The student that is asked in training: the very one, or its prompts before other class names.
        """
        return student

    def start_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0."""

    def read(self, batch: dict) -> View:
        """The view of a batch of the loader."""
        raise NotImplementedError

    def classes(self, view: View) -> Tensor | None:
        """Which classes the student is asked about, int64 [K]; None = all."""
        return None

    def terms(self, outputs: Outputs, view: View) -> dict[str, Tensor]:
        """Weighted loss terms (scalars in float32) of what the student says of a view."""
        raise NotImplementedError
