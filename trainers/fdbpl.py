"""FDBPL: Faster Distillation-Based Prompt Learning (Zhang et al., 2025): RIL, RADP and PCD.

`FDBPL` learns CoOp's context; `FDBPL_MaPLe` and its like another student's prompts. docs/FDBPL.md says line by line
what is the paper's, what the released code's (`trainers/coop_off.py`, `trainers/promptsrc_off.py`) and what ours.
"""

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.batch import View
from fdbpl.engine.registry import register
from fdbpl.engine.settings import check_context_words, require
from fdbpl.engine.student import Outputs, Scorer, Student
from fdbpl.engine.supervision.region_bank import RegionBank
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
from fdbpl.losses import cascaded_difference, coupling, entropy_weight, negative_loss, symmetric_kl
from fdbpl.prompts import PromptLearner

from .cocoop import CoCoOp
from .coop import CoOpStudent
from .ivlp import IVLP
from .kgcoop import KgCoOp
from .maple import MaPLe
from .promptkd import PromptKD
from .promptsrc import PromptSRC
from .tcp import TCP
from .vpt import VPT

TEST_LOGITS = ("positive", "difference")


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.FDBPL = CfgNode()
    cfg.TRAINER.FDBPL.N_CTX = 4  # context vectors of either space; words override it
    cfg.TRAINER.FDBPL.CSC = False  # one context per class
    cfg.TRAINER.FDBPL.CTX_INIT = "a photo of a"  # words the positive space starts from; "" = random
    cfg.TRAINER.FDBPL.NEGATIVE_CTX_INIT = "a photo of no"  # words the negative space starts from
    cfg.TRAINER.FDBPL.CLASS_TOKEN_POSITION = "end"  # end | middle | front
    cfg.TRAINER.FDBPL.PREC = "fp16"  # fp32 | fp16 | amp | bf16
    cfg.TRAINER.FDBPL.ALPHA = 0.5  # weight of KL(teacher || student)
    cfg.TRAINER.FDBPL.BETA = 0.5  # weight of KL(student || teacher)
    cfg.TRAINER.FDBPL.REGION_WEIGHT = True  # False (ablation): every region counts as informative, w = 1
    cfg.TRAINER.FDBPL.ENTROPY_EPSILON = 1e-6  # inside the logarithm of the region weight, as the release; 0.0 = none
    cfg.TRAINER.FDBPL.NEGATIVE_WEIGHT = 1.0  # weight of the negative space's term
    cfg.TRAINER.FDBPL.COUPLING_WEIGHT = 0.001  # weight of cos(s+, s-)
    cfg.TRAINER.FDBPL.PCD_WEIGHT = 0.1  # weight of the cascaded difference
    cfg.TRAINER.FDBPL.PCD_MARGIN = 0.2  # its margin, in units of cosine
    cfg.TRAINER.FDBPL.TEST_LOGITS = "positive"  # positive | difference (ablation: logits s+ - s-)


class RegionDistillation(PromptTrainer):
    """Any student, supervised by the region bank: no labels, no teacher. A student with prompts in the text tower gets
    a second, negative prompt space there: a context of its own before the frozen tower."""

    supervision_class = RegionBank

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        inference, epsilon = cfg.TRAINER.FDBPL.TEST_LOGITS, cfg.TRAINER.FDBPL.ENTROPY_EPSILON
        require(inference in TEST_LOGITS, "TRAINER.FDBPL.TEST_LOGITS", " or ".join(TEST_LOGITS), inference)
        require(epsilon >= 0, "TRAINER.FDBPL.ENTROPY_EPSILON", "of at least 0.0", epsilon)
        if inference == "difference" and not self.student_class.learns_text:
            raise UserError(
                f"expected TRAINER.FDBPL.TEST_LOGITS positive for {type(self).__name__}, whose text is fixed, found "
                "difference; leave it out"
            )
        if self.student_class.learns_text:
            name = f"TRAINER.{self.node or self.student_class.node}"
            words = cfg.TRAINER.FDBPL.NEGATIVE_CTX_INIT
            check_context_words(self.settings(cfg), name, "TRAINER.FDBPL.NEGATIVE_CTX_INIT", words)

    def build_student(self, backbone: Backbone, classnames: list[str]) -> Student:
        student = super().build_student(backbone, classnames)
        self.negative_prompt_learner = self.new_negative_space(self.cfg, backbone, classnames)
        return student

    @classmethod
    def new_negative_space(cls, cfg: CfgNode, backbone: Backbone, classnames: list[str]) -> PromptLearner | None:
        """The negative prompt space of `cfg`, where it starts from; None where the student's text is fixed."""
        if not cls.student_class.learns_text:
            return None
        settings = cls.settings(cfg)
        return PromptLearner(
            backbone.model,
            classnames,
            cfg.TRAINER.FDBPL.N_CTX,
            cfg.TRAINER.FDBPL.NEGATIVE_CTX_INIT,
            settings.get("CSC", False),
            settings.get("CLASS_TOKEN_POSITION", "end"),
        )

    def learners(self) -> dict[str, nn.Module]:
        negative = self.negative_prompt_learner
        return super().learners() | ({} if negative is None else {"negative_prompt_learner": negative})

    def loss_terms(self, view: View) -> dict[str, Tensor]:
        """The loss of a batch of B regions."""
        weights, student = self.cfg.TRAINER.FDBPL, self.student

        # Region Information Lookup: t was computed once, with the bank; x too where nothing is learnt before it.
        x = student.image_features(view)  # [B, D]
        t = view.teacher_logits  # [B, C]
        w = self.region_weight(view)  # [B]: 1 = informative region, 0 = the teacher knows nothing of it

        # Region-Aware Dual Prompt: the positive space follows the teacher where a region is informative,
        # the negative space says "none of these" where it is not.
        negative = [] if self.negative_prompt_learner is None else [self.negative_prompt_learner()]
        f_positive, *f_negative = student.text_features(*negative, image_features=x)  # [C, D] each
        s_positive = student.logits(x, f_positive)  # [B, C]
        terms = {"positive": (w * symmetric_kl(t, s_positive, weights.ALPHA, weights.BETA)).mean()}
        if f_negative:
            s_negative = student.logits(x, f_negative[0])
            terms["negative"] = weights.NEGATIVE_WEIGHT * ((1 - w) * negative_loss(s_negative)).mean()
            terms["coupling"] = weights.COUPLING_WEIGHT * (w * coupling(s_positive, s_negative)).mean()

            # Prompt-Cascaded Difference: first order d_c = f+_c - f-_c, second order between two classes of the batch.
            agreement = (s_positive - s_negative) / student.backbone.logit_scale  # x_i . d_c
            pcd = cascaded_difference(agreement, t.argmax(dim=-1), w, weights.PCD_MARGIN)
            terms["pcd"] = weights.PCD_WEIGHT * pcd
        return {**terms, **student.own_terms(view, Outputs(x, f_positive, s_positive))}

    def region_weight(self, view: View) -> Tensor:
        """w = 1 - H(p) / ln C of each region, float32 [B]."""
        settings = self.cfg.TRAINER.FDBPL
        if not settings.REGION_WEIGHT:
            return torch.ones(len(view.teacher_logits), device=view.teacher_logits.device)
        if view.entropy is not None:
            return 1 - view.entropy
        return entropy_weight(view.teacher_logits, settings.ENTROPY_EPSILON)

    def scorer(self) -> Scorer:
        return self.scorer_of(self.cfg, self.student, self.negative_prompt_learner)

    @classmethod
    def scorer_of(cls, cfg: CfgNode, student: Student, negative: nn.Module | None = None) -> Scorer:
        """Positive logits, as the release; or s+ - s- where `TRAINER.FDBPL.TEST_LOGITS` is "difference"."""
        if cfg.TRAINER.FDBPL.TEST_LOGITS == "positive":
            return student.scorer()
        positive, (f_negative,) = student.scorer(), student.encode(negative())
        return lambda x: positive(x) - student.logits(x, f_negative)


@register
class FDBPL(RegionDistillation):
    """CoOp's context in two prompt spaces, supervised by the region bank."""

    student_class = CoOpStudent
    node = "FDBPL"


def with_region_bank(method: type[PromptTrainer]) -> type[PromptTrainer]:
    """`method`, supervised by the region bank; registered as FDBPL_<method>."""
    doc = f"{method.__name__}, supervised by the region bank."
    return register(type(f"FDBPL_{method.__name__}", (RegionDistillation, method), {"__doc__": doc}))


for _method in (CoCoOp, VPT, IVLP, MaPLe, PromptSRC, KgCoOp, TCP, PromptKD):
    with_region_bank(_method)
