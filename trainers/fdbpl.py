"""FDBPL: Faster Distillation-Based Prompt Learning (Zhang et al., 2025): RIL, RADP and PCD.

`FDBPL` trains CoOp's context; `FDBPL_MaPLe` and the other variants, next to their methods, train another student.
docs/FDBPL.md compares every line with the paper and with the released code (`trainers/coop_off.py`,
`trainers/promptsrc_off.py`).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.gaussian_average import GaussianPromptAveraging
from fdbpl.engine.registry import register
from fdbpl.engine.settings import check_context_words, require
from fdbpl.engine.student import Classifier, Student, StudentOutput
from fdbpl.engine.supervision.base import Supervision
from fdbpl.engine.supervision.region_bank import RegionBankSupervision
from fdbpl.errors import UserError
from fdbpl.losses import (
    cascaded_difference,
    class_distance,
    coupling,
    entropy_weight,
    negative_loss,
    none_loss,
    rank_weight,
    symmetric_kl,
    weighted_mean,
)
from fdbpl.prompts import PromptLearner

from .coop import CoOpStudent

TEST_LOGITS = ("positive", "difference")


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.FDBPL = CfgNode()
    cfg.TRAINER.FDBPL.N_CTX = 4  # context vectors of each space; initial words override it
    cfg.TRAINER.FDBPL.CSC = False  # one context per class
    cfg.TRAINER.FDBPL.CTX_INIT = "a photo of a"  # initial words of the positive space; "" = random
    cfg.TRAINER.FDBPL.NEGATIVE_CTX_INIT = "a photo of no"  # initial words of the negative space
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

    # Extensions of the paper's method, off by default (docs/FDBPL.md)
    cfg.TRAINER.FDBPL.RANK_WEIGHT = False  # True: w is the rank of 1 - H(p) / ln C in the batch, scaled to [0, 1]
    cfg.TRAINER.FDBPL.NORMALIZE_WEIGHT = False  # True: sum w L / sum w instead of the mean of w L
    cfg.TRAINER.FDBPL.UNCERTAIN_WEIGHT = 0.0  # weight of -H(q+) in uninformative regions, also for the positive space
    cfg.TRAINER.FDBPL.NONE_WEIGHT = 0.0  # weight of KL to (w p, 1 - w) over the classes and a prompt "none of these"
    cfg.TRAINER.FDBPL.NONE_CTX_INIT = "a photo of nothing"  # initial words of this prompt, which has no class name
    cfg.TRAINER.FDBPL.LABEL_WEIGHT = 0.0  # weight of the cross entropy with the images' labels in informative regions
    cfg.TRAINER.FDBPL.IMAGE_MEAN = 0.0  # share of the image's mean distribution, over all its regions, in the targets
    cfg.TRAINER.FDBPL.POSITIVE_AREA = 0.0  # smaller regions, as a share of the image, feed the negative terms only
    cfg.TRAINER.FDBPL.VOCABULARY = ""  # words to distil as well: a file with one per line, or kdpl
    cfg.TRAINER.FDBPL.VOCABULARY_K = 100  # number of words in each batch, the most likely ones according to the teacher
    cfg.TRAINER.FDBPL.VOCABULARY_WEIGHT = 1.0  # weight of their term
    cfg.TRAINER.FDBPL.VOCABULARY_PULL = 0.0  # weight of 1 - mean cosine of their features to the frozen ones, as in DOR
    cfg.TRAINER.FDBPL.FROZEN_TEXT_WEIGHT = 0.0  # mu of the class features t + mu t_frozen of a test
    cfg.TRAINER.FDBPL.GPA = False  # Gaussian average of the epochs' prompts, as in PromptSRC
    cfg.TRAINER.FDBPL.GPA_MEAN = 0.75  # its mean, in units of OPTIM.MAX_EPOCH
    cfg.TRAINER.FDBPL.GPA_STD = 0.05  # its standard deviation, in the same units


class RegionDistillation(GaussianPromptAveraging):
    """Any student, supervised by the region bank, without labels and without an online teacher.

    A student with prompts in the text tower gets a second, negative prompt space: a context at the input of the frozen
    text tower.
    """

    supervision_class: type[Supervision] = RegionBankSupervision
    supervision: RegionBankSupervision
    prompt_spaces: dict[str, PromptLearner]

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        settings, student_class = cfg.TRAINER.FDBPL, self.student_class
        choices = " or ".join(TEST_LOGITS)
        require(settings.TEST_LOGITS in TEST_LOGITS, "TRAINER.FDBPL.TEST_LOGITS", choices, settings.TEST_LOGITS)
        epsilon = settings.ENTROPY_EPSILON
        require(epsilon >= 0, "TRAINER.FDBPL.ENTROPY_EPSILON", "at least 0.0", epsilon)
        if settings.TEST_LOGITS == "difference" and not student_class.learns_text:
            raise UserError(
                f"TRAINER.FDBPL.TEST_LOGITS difference needs a negative prompt space, which {type(self).__name__} does "
                "not have, since its text is fixed; leave it out"
            )
        if student_class.learns_text:
            words = settings.NEGATIVE_CTX_INIT
            check_context_words(self.settings(cfg), self.settings_key(), "TRAINER.FDBPL.NEGATIVE_CTX_INIT", words)
        self.check_extensions(cfg)

    def check_extensions(self, cfg: CfgNode) -> None:
        settings, name = cfg.TRAINER.FDBPL, type(self).__name__
        for key in (
            "UNCERTAIN_WEIGHT", "LABEL_WEIGHT", "NONE_WEIGHT", "VOCABULARY_WEIGHT", "VOCABULARY_PULL",
            "FROZEN_TEXT_WEIGHT",
        ):  # fmt: skip
            require(settings[key] >= 0, f"TRAINER.FDBPL.{key}", "at least 0.0", settings[key])
        require(settings.VOCABULARY_K >= 1, "TRAINER.FDBPL.VOCABULARY_K", "at least 1 word", settings.VOCABULARY_K)
        require(settings.GPA_STD > 0, "TRAINER.FDBPL.GPA_STD", "above 0.0", settings.GPA_STD)
        fixed_text, own_average = not self.student_class.learns_text, super().averaging(cfg)
        for wrong, message in (
            (settings.VOCABULARY and self.student_class.uses_teacher_features,
             f"VOCABULARY cannot be used with {name}, whose class features are the teacher's; leave it out"),
            (settings.FROZEN_TEXT_WEIGHT and fixed_text,
             f"FROZEN_TEXT_WEIGHT cannot be used with {name}, whose text is fixed; leave it out"),
            (settings.VOCABULARY_PULL and fixed_text,
             f"VOCABULARY_PULL cannot be used with {name}, whose text is fixed; leave it out"),
            (settings.NONE_WEIGHT and fixed_text,
             f"NONE_WEIGHT cannot be used with {name}, whose text is fixed; leave it out"),
            (settings.VOCABULARY_PULL and not settings.VOCABULARY,
             "VOCABULARY_PULL needs words; give TRAINER.FDBPL.VOCABULARY too"),
            (settings.RANK_WEIGHT and not settings.REGION_WEIGHT,
             "RANK_WEIGHT True needs REGION_WEIGHT True; with False every weight is 1"),
            (settings.FROZEN_TEXT_WEIGHT and cfg.TEACHER.MATCH_RELATIONS,
             "FROZEN_TEXT_WEIGHT cannot be combined with TEACHER.MATCH_RELATIONS True; leave one out"),
            (cfg.TEACHER.MATCH_RELATIONS and settings.TEST_LOGITS == "difference",
             "TEST_LOGITS difference cannot be combined with TEACHER.MATCH_RELATIONS True, which changes the positive "
             "class features only; leave one out"),
            (settings.NONE_WEIGHT and settings.TEST_LOGITS == "difference",
             "NONE_WEIGHT needs TEST_LOGITS positive, the logits that its prompt is trained with"),
            (settings.GPA and own_average,
             f"GPA cannot be used with {name}, which averages by {self.settings_key()}.GPA_MEAN; leave it out"),
        ):  # fmt: skip
            if wrong:
                raise UserError(f"TRAINER.FDBPL.{message}")

    def build_student(self, backbone: Backbone, classnames: list[str]) -> Student:
        student = super().build_student(backbone, classnames)
        self.prompt_spaces = self.new_prompt_spaces(self.cfg, backbone, classnames)
        return student

    @property
    def negative_prompt_learner(self) -> PromptLearner | None:
        return self.prompt_spaces.get("negative_prompt_learner")

    @classmethod
    def new_student(
        cls, cfg: CfgNode, backbone: Backbone, classnames: list[str], template: str,
        teacher_features: Callable[[list[str]], Tensor],
    ) -> Student:  # fmt: skip
        student = super().new_student(cfg, backbone, classnames, template, teacher_features)
        student.frozen_text_weight = cfg.TRAINER.FDBPL.FROZEN_TEXT_WEIGHT
        return student

    @classmethod
    def new_prompt_spaces(cls, cfg: CfgNode, backbone: Backbone, classnames: list[str]) -> dict[str, PromptLearner]:
        """Return the untrained negative space, and the prompt "none of these"; {} if the student's text is fixed."""
        if not cls.student_class.learns_text:
            return {}
        own, settings = cls.settings(cfg), cfg.TRAINER.FDBPL
        negative = PromptLearner(
            backbone.model,
            classnames,
            settings.N_CTX,
            settings.NEGATIVE_CTX_INIT,
            own.get("CSC", False),
            own.get("CLASS_TOKEN_POSITION", "end"),
        )
        spaces = {"negative_prompt_learner": negative}
        if settings.NONE_WEIGHT:  # a prompt without a class name
            none = PromptLearner(backbone.model, [""], settings.N_CTX, settings.NONE_CTX_INIT)
            spaces["none_prompt_learner"] = none
        return spaces

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {**super().trainable_modules(), **self.prompt_spaces}

    def averaging(self, cfg: CfgNode) -> tuple[float, float] | None:
        settings, epochs = cfg.TRAINER.FDBPL, cfg.OPTIM.MAX_EPOCH
        own = (settings.GPA_MEAN * epochs, settings.GPA_STD * epochs) if settings.GPA else None
        return own or super().averaging(cfg)

    def averaged_modules(self) -> dict[str, nn.Module]:
        if not self.cfg.TRAINER.FDBPL.GPA:
            return super().averaged_modules()
        return {f"{name}.": module for name, module in self.trainable_modules().items()}

    def compute_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Return the loss of a batch of B regions."""
        weights, student = self.cfg.TRAINER.FDBPL, self.student

        # Region Information Lookup: t comes from the bank; so does x if nothing is trained in the image tower.
        x = student.image_features(batch)  # [B, D]
        t = batch.teacher_logits  # [B, C]
        assert t is not None
        w = self.region_weight(t, batch.entropy)  # [B]: 1 = informative region, 0 = no class in it
        v = w if batch.positive_factor is None else w * batch.positive_factor  # weight of the positive terms
        target = t if batch.target_logits is None else batch.target_logits  # [B, C]

        # Region-Aware Dual Prompt: the positive space follows the teacher in informative regions,
        # the negative space is trained towards "none of these classes" in the others.
        negative = [] if self.negative_prompt_learner is None else [self.negative_prompt_learner()]
        f_positive, *f_negative = student.text_features(*negative, image_features=x)  # [C, D] each
        s_positive = student.logits(x, f_positive)  # [B, C]
        mean = partial(weighted_mean, normalize=weights.NORMALIZE_WEIGHT)
        losses = {"positive": mean(symmetric_kl(target, s_positive, weights.ALPHA, weights.BETA), v)}
        if f_negative:
            s_negative = student.logits(x, f_negative[0])
            losses["negative"] = weights.NEGATIVE_WEIGHT * mean(negative_loss(s_negative), 1 - w)
            losses["coupling"] = weights.COUPLING_WEIGHT * mean(coupling(s_positive, s_negative), v)

            # Prompt-Cascaded Difference: first order d_c = f+_c - f-_c, second order between two classes of the batch.
            agreement = (s_positive - s_negative) / student.backbone.logit_scale  # x_i . d_c
            pcd = cascaded_difference(agreement, t.argmax(dim=-1), v, weights.PCD_MARGIN)
            losses["pcd"] = weights.PCD_WEIGHT * pcd

        output = StudentOutput(x, f_positive, s_positive)
        extensions = self.extension_losses(batch, w, v, output)
        return {**losses, **extensions, **student.regularization_losses(batch, output)}

    def extension_losses(self, batch: TrainBatch, w: Tensor, v: Tensor, output: StudentOutput) -> dict[str, Tensor]:
        """Return the terms of the extensions that are switched on; w and v as in `compute_losses`."""
        weights, t, s = self.cfg.TRAINER.FDBPL, batch.teacher_logits, output.logits
        assert t is not None
        mean = partial(weighted_mean, normalize=weights.NORMALIZE_WEIGHT)
        losses = {}
        if weights.UNCERTAIN_WEIGHT:
            losses["uncertain"] = weights.UNCERTAIN_WEIGHT * mean(negative_loss(s), 1 - w)
        if batch.labels is not None:
            losses["label"] = weights.LABEL_WEIGHT * mean(cross_entropy(s, batch.labels, reduction="none"), v)
        if batch.word_logits is not None:
            f_words = self.supervision.word_features(batch, output.image_features)  # [K, D]
            t_words = torch.cat([t, batch.word_logits], dim=-1)  # [B, C + K]
            s_words = torch.cat([s, self.student.logits(output.image_features, f_words)], dim=-1)
            distance = symmetric_kl(t_words, s_words, weights.ALPHA, weights.BETA)
            losses["vocabulary"] = weights.VOCABULARY_WEIGHT * mean(distance, v)
            if weights.VOCABULARY_PULL:
                pull = class_distance(f_words, self.supervision.frozen_words[batch.words])
                losses["vocabulary_pull"] = weights.VOCABULARY_PULL * pull
        if "none_prompt_learner" in self.prompt_spaces:
            (f_none,) = self.student.encode(self.prompt_spaces["none_prompt_learner"]())  # [1, D]
            s_none = torch.cat([s, self.student.logits(output.image_features, f_none)], dim=-1)  # [B, C + 1]
            losses["none"] = weights.NONE_WEIGHT * none_loss(t, w, s_none).mean()
        return losses

    def region_weight(self, teacher_logits: Tensor, entropy: Tensor | None = None) -> Tensor:
        """w = 1 - H(p) / ln C of each region, or its rank, float32 [B]; H(p) / ln C is `entropy` if it is given."""
        settings = self.cfg.TRAINER.FDBPL
        if not settings.REGION_WEIGHT:
            return torch.ones(len(teacher_logits), device=teacher_logits.device)
        w = entropy_weight(teacher_logits, settings.ENTROPY_EPSILON) if entropy is None else 1 - entropy
        return rank_weight(w) if settings.RANK_WEIGHT else w

    def build_classifier(self) -> Classifier:
        return self.classifier_of(self.cfg, self.student, self.negative_prompt_learner)

    @classmethod
    def classifier_of(cls, cfg: CfgNode, student: Student, negative: PromptLearner | None = None) -> Classifier:
        """Return a classifier by s+, as in the released code, or by s+ - s- (TRAINER.FDBPL.TEST_LOGITS)."""
        classify = student.build_classifier()
        if cfg.TRAINER.FDBPL.TEST_LOGITS == "positive" or negative is None:
            return classify
        (f_negative,) = student.encode(negative())
        return lambda x: classify(x) - student.logits(x, f_negative)


@register
class FDBPL(RegionDistillation):
    """CoOp's context in two prompt spaces, supervised by the region bank."""

    student_class = CoOpStudent
    cfg_key = "FDBPL"
