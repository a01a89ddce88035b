"""FDBPL: Faster Distillation-Based Prompt Learning (Zhang et al., 2025): RIL, RADP and PCD on CoOp's context.

docs/METHOD.md says line by line what is the paper's, what the released code's (`trainers/coop_off.py`) and what ours.
"""

from collections.abc import Callable

from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.errors import UserError
from fdbpl.losses import cascaded_difference, coupling, entropy_weight, negative_loss, symmetric_kl
from fdbpl.prompts import PromptLearner

from .coop import CoOpStudent
from .prompt_trainer import PromptTrainer, register
from .student import Student
from .supervision.region_bank import RegionBank
from .supervision.view import View

INFERENCES = ("positive", "difference")


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.FDBPL = CfgNode()
    cfg.TRAINER.FDBPL.N_CTX = 4  # context vectors of either space; words override it
    cfg.TRAINER.FDBPL.CSC = False  # one context per class
    cfg.TRAINER.FDBPL.CTX_INIT = "a photo of a"  # words the positive space starts from; "" = random
    cfg.TRAINER.FDBPL.NEGATIVE_CTX_INIT = "a photo of no"  # words the negative space starts from
    cfg.TRAINER.FDBPL.CLASS_TOKEN_POSITION = "end"  # end | middle | front
    cfg.TRAINER.FDBPL.PREC = "fp16"  # fp32 | fp16 | amp
    cfg.TRAINER.FDBPL.ALPHA = 0.5  # weight of KL(teacher || student)
    cfg.TRAINER.FDBPL.BETA = 0.5  # weight of KL(student || teacher)
    cfg.TRAINER.FDBPL.ENTROPY_EPSILON = 1e-6  # inside the logarithm of the region weight, as the release; 0.0 = none
    cfg.TRAINER.FDBPL.NEGATIVE_WEIGHT = 1.0  # weight of the negative space's term
    cfg.TRAINER.FDBPL.COUPLING_WEIGHT = 0.001  # weight of cos(s+, s-)
    cfg.TRAINER.FDBPL.PCD_WEIGHT = 0.1  # weight of the cascaded difference
    cfg.TRAINER.FDBPL.PCD_MARGIN = 0.2  # its margin, in units of cosine
    cfg.TRAINER.FDBPL.INFERENCE = "positive"  # positive | difference (ablation: logits s+ - s-)


@register
class FDBPL(PromptTrainer):
    """CoOp's context in two prompt spaces, supervised by the region bank, without labels and without a teacher."""

    student_class = CoOpStudent
    supervision_class = RegionBank
    node = "FDBPL"

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        inference = cfg.TRAINER.FDBPL.INFERENCE
        if inference not in INFERENCES:
            raise UserError(f"expected TRAINER.FDBPL.INFERENCE {' or '.join(INFERENCES)}, found {inference!r}; set one")

    def build_student(self, settings: CfgNode, backbone, classnames: list[str]) -> Student:
        student = super().build_student(settings, backbone, classnames)
        spaces = self.cfg.TRAINER.FDBPL
        self.negative_prompt_learner = PromptLearner(
            backbone.model,
            classnames,
            spaces.N_CTX,
            spaces.NEGATIVE_CTX_INIT,
            spaces.CSC,
            spaces.CLASS_TOKEN_POSITION,
        )
        return student

    def learners(self) -> dict[str, nn.Module]:
        return {**super().learners(), "negative_prompt_learner": self.negative_prompt_learner}

    def loss_terms(self, view: View) -> dict[str, Tensor]:
        """The loss of a batch of B regions."""
        weights = self.cfg.TRAINER.FDBPL

        # Region Information Lookup: x and t were computed once, when the bank was made.
        x = self.student.image_features(view)  # [B, D]
        t = view.teacher_logits  # [B, C]
        w = entropy_weight(t, weights.ENTROPY_EPSILON) if view.entropy is None else 1 - view.entropy
        # w is [B]: 1 = informative region, 0 = the teacher knows nothing of it.

        # Region-Aware Dual Prompt: the positive space follows the teacher where a region is informative,
        # the negative space says "none of these" where it is not.
        f_positive, f_negative = self.student.text_features(self.negative_prompt_learner())  # [C, D] each
        s_positive, s_negative = self.student.logits(x, f_positive), self.student.logits(x, f_negative)  # [B, C]
        terms = {
            "positive": (w * symmetric_kl(t, s_positive, weights.ALPHA, weights.BETA)).mean(),
            "negative": weights.NEGATIVE_WEIGHT * ((1 - w) * negative_loss(s_negative)).mean(),
            "coupling": weights.COUPLING_WEIGHT * (w * coupling(s_positive, s_negative)).mean(),
        }

        # Prompt-Cascaded Difference: first order f+ - f-, second order between two classes of the batch.
        pcd = cascaded_difference(x, f_positive - f_negative, t.argmax(dim=-1), w, weights.PCD_MARGIN)
        terms["pcd"] = weights.PCD_WEIGHT * pcd
        return {**terms, **self.student.own_terms()}

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Positive logits, as the release; or s+ - s- where `TRAINER.FDBPL.INFERENCE` is "difference"."""
        if self.cfg.TRAINER.FDBPL.INFERENCE == "positive":
            return self.student.predictor()
        f_positive, f_negative = self.student.text_features(self.negative_prompt_learner())
        difference = f_positive - f_negative
        return lambda images: self.student.logits(self.student.image_features(View(images=images)), difference)
