"""PromptSRC: Self-regulating Prompts, foundational model adaptation without forgetting (Khattak et al., ICCV 2023).

Official file: `trainers/promptsrc.py` of muzairkhattak/PromptSRC; there 4 + 4 tokens, depth 9, 20 epochs, batch 4, lr
0.0025, Gaussian average of the epochs (mean 15, deviation 1). IVLP's prompts, held near the frozen CLIP's features.
"""

import math
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.engine.batch import View
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import Outputs
from fdbpl.engine.supervision.hard_labels import HardLabels
from fdbpl.engine.templates import IMAGENET_TEMPLATES
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
from fdbpl.losses import kl_forward
from fdbpl.templates import fill_template

from .ivlp import IVLPStudent


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.PROMPTSRC = CfgNode()
    cfg.TRAINER.PROMPTSRC.N_CTX_VISION = 4  # visual prompts at the input of each prompted block
    cfg.TRAINER.PROMPTSRC.N_CTX_TEXT = 4  # text prompts likewise
    cfg.TRAINER.PROMPTSRC.CTX_INIT = "a photo of a"  # the first N_CTX_TEXT words start the input's prompts; "" = random
    cfg.TRAINER.PROMPTSRC.PROMPT_DEPTH_VISION = 9  # image blocks that get prompts, counted from the first
    cfg.TRAINER.PROMPTSRC.PROMPT_DEPTH_TEXT = 9  # text blocks likewise
    cfg.TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT = 25.0  # of the L1 distance to the frozen class features
    cfg.TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT = 10.0  # of the L1 distance to the frozen image features
    cfg.TRAINER.PROMPTSRC.GPA_MEAN = 15.0  # epoch that the average of the epochs' prompts weighs most
    cfg.TRAINER.PROMPTSRC.GPA_STD = 1.0  # its standard deviation in epochs
    cfg.TRAINER.PROMPTSRC.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class PromptSRCStudent(IVLPStudent):
    node = "PROMPTSRC"
    compares_with_frozen_images = True

    def prepare(self) -> None:
        _ = self.frozen_text

    @cached_property
    def frozen_text(self) -> Tensor:
        """Unit frozen class features over many templates, float32 [C, D]: made in training, which alone reads them."""
        with self.autocast():
            raw = sum(self.backbone.text_features(fill_template(text, self.classnames)) for text in IMAGENET_TEMPLATES)
        return F.normalize(raw, dim=-1)

    def own_terms(self, view: View, outputs: Outputs) -> dict[str, Tensor]:
        """L1 to the frozen features of both towers, and KL(frozen || prompted) divided by the number of logits."""
        with torch.no_grad():
            frozen_image = self.frozen_image_features(view)
            frozen_text = self.frozen_text if outputs.classes is None else self.frozen_text[outputs.classes]
            frozen_logits = self.logits(frozen_image, frozen_text)
        return {
            "scl_text": self.settings.TEXT_LOSS_WEIGHT * F.l1_loss(outputs.text_features, frozen_text),
            "scl_image": self.settings.IMAGE_LOSS_WEIGHT * F.l1_loss(outputs.image_features, frozen_image),
            "scl_logits": kl_forward(frozen_logits, outputs.logits).sum() / outputs.logits.numel(),
        }


class GaussianAverage:
    """Weighted sum of what was learnt, over the epochs 1 ... E: w_e ~ exp(-(e - mean)^2 / (2 std^2)), summing to 1."""

    def __init__(self, epochs: int, mean: float, std: float):
        exponents = [-((epoch - mean) ** 2) / (2 * std**2) for epoch in range(1, epochs + 1)]
        density = [math.exp(exponent - max(exponents)) for exponent in exponents]  # however far off the mean is
        self.weights = [value / sum(density) for value in density]
        self.total: dict[str, Tensor] = {}

    def add(self, epoch: int, state: dict[str, Tensor]) -> None:
        """Add the parameters at the end of `epoch`, counted from 0."""
        for name, value in state.items():
            part = self.weights[epoch] * value.detach().clone()
            self.total[name] = self.total[name] + part if name in self.total else part


class GaussianPromptAveraging(PromptTrainer):
    """Ends with the Gaussian average of the epochs' prompts; what is summed so far lies in the checkpoints."""

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        std = self.settings(cfg).GPA_STD
        require(std > 0, f"TRAINER.{self.student_class.node}.GPA_STD", "above 0.0", std)

    def build_model(self) -> None:
        super().build_model()
        settings = self.settings(self.cfg)
        self.average = GaussianAverage(self.cfg.OPTIM.MAX_EPOCH, settings.GPA_MEAN, settings.GPA_STD)

    def after_epoch(self) -> None:
        (learner,) = self.student.learners().values()
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
                f"expected the average of the epochs so far in the checkpoints that {type(self).__name__} resumes "
                "from, found none; give --resume a run of this method"
            )
        self.average.total = {name: value.to(self.device) for name, value in state.items()}


@register
class PromptSRC(GaussianPromptAveraging):
    """PromptSRC with the labels of the few shots."""

    student_class = PromptSRCStudent
    supervision_class = HardLabels
