"""PromptSRC: Self-regulating Prompts, foundational model adaptation without forgetting (Khattak et al., ICCV 2023).

Official file: `trainers/promptsrc.py` of muzairkhattak/PromptSRC; there 4 + 4 tokens, depth 9, 20 epochs, batch 4, lr
0.0025, Gaussian average of the epochs (mean 15, deviation 1). IVLP's prompts, regularised towards the features of the
frozen CLIP.
"""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import StudentOutput
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.templates import IMAGENET_TEMPLATES
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
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


class GaussianAverage:
    """Weighted sum of the parameters over epochs 1 ... E: w_e ~ exp(-(e - mean)^2 / (2 std^2)), normalised to 1."""

    def __init__(self, epochs: int, mean: float, std: float):
        exponents = [-((epoch - mean) ** 2) / (2 * std**2) for epoch in range(1, epochs + 1)]
        density = [math.exp(exponent - max(exponents)) for exponent in exponents]  # no underflow
        self.weights = [value / sum(density) for value in density]
        self.total: dict[str, Tensor] = {}

    def add(self, epoch: int, state: dict[str, Tensor]) -> None:
        """Add the parameters at the end of `epoch`, counted from 0."""
        for name, value in state.items():
            part = self.weights[epoch] * value.detach().clone()
            self.total[name] = self.total[name] + part if name in self.total else part


class GaussianPromptAveraging(PromptTrainer):
    """Replacement of the trained prompts by their Gaussian average over epochs. Checkpoints contain the sum so far."""

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        std = self.settings(cfg).GPA_STD
        require(std > 0, f"{self.settings_key()}.GPA_STD", "above 0.0", std)

    def build_model(self) -> None:
        super().build_model()
        settings = self.settings(self.cfg)
        self.average = GaussianAverage(self.cfg.OPTIM.MAX_EPOCH, settings.GPA_MEAN, settings.GPA_STD)

    def after_epoch(self) -> None:
        (learner,) = self.student.trainable_modules().values()
        parameters = dict(learner.named_parameters())
        self.average.add(self.epoch, parameters)
        if self.epoch + 1 == self.max_epoch:
            print("Using the Gaussian average of the epochs' prompts")
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(self.average.total[name])
        super().after_epoch()

    def extra_state(self) -> dict[str, Tensor]:
        return self.average.total

    def restore_extra_state(self, state: dict[str, Tensor]) -> None:
        if not state:
            raise UserError(
                f"The checkpoints to resume from have no average of the epochs so far, which {type(self).__name__} "
                "needs; give --resume a run of this method"
            )
        self.average.total = {name: value.to(self.device) for name, value in state.items()}


@register
class PromptSRC(GaussianPromptAveraging):
    """PromptSRC with few-shot labels."""

    student_class = PromptSRCStudent


@register
class PromptSRC_KDPL(PromptSRC):
    """PromptSRC, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher


@register
class FDBPL_PromptSRC(RegionDistillation, PromptSRC):
    """PromptSRC, supervised by the region bank (FDBPL)."""
