"""PromptSRC: Self-regulating Prompts, foundational model adaptation without forgetting (Khattak et al., ICCV 2023).

Official file: `trainers/promptsrc.py` of muzairkhattak/PromptSRC; there 4 + 4 tokens, depth 9, 20 epochs, batch 4, lr
0.0025, Gaussian average of the epochs (mean 15, deviation 1). IVLP's prompts, regularised towards the features of the
frozen CLIP.
"""

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.gaussian_average import GaussianPromptAveraging
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import StudentOutput
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.templates import IMAGENET_TEMPLATES
from fdbpl.losses import kl_forward
from fdbpl.templates import fill_template

from .fdbpl import RegionDistillation
from .ivlp import IVLPStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.PROMPTSRC = CfgNode()
    cfg.TRAINER.PROMPTSRC.N_CTX_VISION = 4  # visual prompts at the input of each prompted block
    cfg.TRAINER.PROMPTSRC.N_CTX_TEXT = 4  # text prompts
    cfg.TRAINER.PROMPTSRC.CTX_INIT = "a photo of a"  # its first N_CTX_TEXT words start the input prompts; "" = random
    cfg.TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION = 9  # image blocks that get prompts, counted from the first
    cfg.TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT = 9  # the same for text blocks
    cfg.TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT = 25.0  # of the L1 distance to the frozen class features
    cfg.TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT = 10.0  # of the L1 distance to the frozen image features
    cfg.TRAINER.PROMPTSRC.GPA_MEAN = 15.0  # epoch that the average of the epochs' prompts weighs most
    cfg.TRAINER.PROMPTSRC.GPA_STD = 1.0  # its standard deviation in epochs
    cfg.TRAINER.PROMPTSRC.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class PromptSRCStudent(IVLPStudent):
    """IVLP's prompts and the self-consistency losses."""

    cfg_key = "PROMPTSRC"
    compares_with_frozen_images = True

    def on_train_start(self) -> None:
        _ = self.frozen_text  # computed once

    @cached_property
    def frozen_text(self) -> Tensor:
        """Unit frozen class features over many templates, float32 [C, D]; only training reads them."""
        with self.autocast():
            raw = sum(self.backbone.text_features(fill_template(text, self.classnames)) for text in IMAGENET_TEMPLATES)
        return F.normalize(raw, dim=-1)

    def regularization_losses(self, batch: TrainBatch, output: StudentOutput) -> dict[str, Tensor]:
        """Return the L1 distances to both towers' frozen features, and KL(frozen || prompted) per logit."""
        with torch.no_grad():
            frozen_image = self.frozen_image_features(batch)
            frozen_text = self.frozen_text if output.classes is None else self.frozen_text[output.classes]
            frozen_logits = self.logits(frozen_image, frozen_text)
        return {
            "scl_text": self.settings.TEXT_LOSS_WEIGHT * F.l1_loss(output.text_features, frozen_text),
            "scl_image": self.settings.IMAGE_LOSS_WEIGHT * F.l1_loss(output.image_features, frozen_image),
            "scl_logits": kl_forward(frozen_logits, output.logits).sum() / output.logits.numel(),
        }


@register
class PromptSRC(GaussianPromptAveraging):
    """PromptSRC with few-shot labels."""

    student_class = PromptSRCStudent

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        std = cfg.TRAINER.PROMPTSRC.GPA_STD
        require(std > 0, "TRAINER.PROMPTSRC.GPA_STD", "above 0.0", std)

    def averaging(self, cfg: CfgNode) -> tuple[float, float] | None:
        return cfg.TRAINER.PROMPTSRC.GPA_MEAN, cfg.TRAINER.PROMPTSRC.GPA_STD


@register
class PromptSRC_KDPL(PromptSRC):
    """PromptSRC, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_PromptSRC(RegionDistillation, PromptSRC):
    """PromptSRC, supervised by the region bank (FDBPL)."""
