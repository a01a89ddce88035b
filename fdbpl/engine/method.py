"""Definition of a method: student, supervision and settings."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, choose_precision
from fdbpl.errors import UserError
from fdbpl.prompts import PromptLearner
from fdbpl.runs.folder import read_classnames

from .bank_spec import BankSpec
from .relation_matching import RelationMatching
from .student import Classifier, Student
from .supervision.base import Supervision
from .supervision.hard_labels import HardLabels


class Method:
    """Definition of a method in its trainer class; finished runs are loaded with it, without a trainer.

    Attributes:
        student_class: the model.
        supervision_class: the source of supervision; by default few-shot labels.
        cfg_key: `cfg.TRAINER.<cfg_key>` holds the student's settings; by default the student class's key.
    """

    student_class: type[Student]
    supervision_class: type[Supervision] = HardLabels
    cfg_key = ""

    @classmethod
    def settings_key(cls) -> str:
        """Return the key of the student's settings, TRAINER.<cfg_key>."""
        return f"TRAINER.{cls.cfg_key or cls.student_class.cfg_key}"

    @classmethod
    def settings(cls, cfg: CfgNode) -> CfgNode:
        """Return the student's section of the configuration."""
        return cfg.TRAINER[cls.cfg_key or cls.student_class.cfg_key]

    @classmethod
    def resolve_precisions(cls, cfg: CfgNode) -> CfgNode:
        """Return `cfg` with the precisions that this machine uses for PREC and TEACHER.PREC; unknown ones are kept.

        It is called before a run is recorded, so that the record states what was used.
        """
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        student = cls.settings(cfg).PREC
        if student == "bf16":
            student = choose_precision(student, device, key=f"{cls.settings_key()}.PREC")
        teacher = cls.supervision_class.teacher_precision(cfg)
        if (student, teacher) == (cls.settings(cfg).PREC, cfg.TEACHER.PREC):
            return cfg
        cfg = cfg.clone()
        cfg.defrost()
        cls.settings(cfg).PREC, cfg.TEACHER.PREC = student, teacher
        cfg.freeze()
        return cfg

    @classmethod
    def bank_spec(cls, cfg: CfgNode, dataset) -> BankSpec | None:
        """Return the region bank that a training of `cfg` reads; None if it reads no bank."""
        return cls.supervision_class.bank_spec(cfg, dataset, cls.student_class)

    @classmethod
    def new_student(
        cls, cfg: CfgNode, backbone: Backbone, classnames: list[str], template: str,
        teacher_features: Callable[[list[str]], Tensor],
    ) -> Student:  # fmt: skip
        """Return an untrained student; no data set is needed.

        Args:
            teacher_features: returns the teacher's unit features of class names, for students that use them (PromptKD).
        """
        return cls.student_class(cls.settings(cfg), backbone, classnames, template)

    @classmethod
    def relation_matching(
        cls, cfg: CfgNode, folder: str | Path, teacher_features: Callable[[list[str]], Tensor]
    ) -> RelationMatching | None:
        """Return what TEACHER.MATCH_RELATIONS needs to test the run in `folder`; None without this key or a teacher.

        Raises:
            UserError: the folder does not record the class names of the training.
        """
        if not cls.matches_relations(cfg):
            return None
        try:
            return RelationMatching(read_classnames(Path(folder)), teacher_features)
        except UserError as error:
            raise UserError(
                "TEACHER.MATCH_RELATIONS True needs the class names of the training, which a finished run records: "
                f"{error}; or set it to False"
            ) from error

    @classmethod
    def matches_relations(cls, cfg: CfgNode) -> bool:
        """Return whether tests of other classes use the teacher's relations (TEACHER.MATCH_RELATIONS)."""
        return cfg.TEACHER.MATCH_RELATIONS and cls.supervision_class.has_teacher

    @classmethod
    def new_prompt_spaces(cls, cfg: CfgNode, backbone: Backbone, classnames: list[str]) -> dict[str, PromptLearner]:
        """Return the untrained prompts that are trained next to the student's, by module; only FDBPL has some."""
        return {}

    @classmethod
    def choose_template(cls, cfg: CfgNode, template: str) -> str:
        """Return the prompt template of the method, given the data set's."""
        return template

    @classmethod
    def classifier_of(cls, cfg: CfgNode, student: Student, negative: PromptLearner | None = None) -> Classifier:
        """Return the classifier of a student of `cfg`; `negative` is FDBPL's negative prompt space."""
        return student.build_classifier()
