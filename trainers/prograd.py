"""ProGrad: Prompt-aligned Gradient for Prompt Tuning (Zhu et al., ICCV 2023).

Official files: `trainers/prograd.py`, `Dassl.ProGrad.pytorch/dassl/engine/trainer.py` of BeierZhu/Prompt-align; there
16 vectors, 50 to 200 epochs, batch 32, lr 0.002. Where the gradient of the labels' loss conflicts
with that of the zero-shot distribution's, the conflicting part is removed.
"""

import torch
from torch import Tensor
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.distributed import all_reduce_mean
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.registry import register
from fdbpl.engine.settings import require
from fdbpl.engine.student import StudentOutput
from fdbpl.engine.templates import DEFAULT_TEMPLATE
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.errors import UserError
from fdbpl.losses import soft_cross_entropy

from .coop import CoOpStudent

# The official templates of data sets for which they differ from CoOp's
TEMPLATES = {
    "OxfordPets": "a type of pet, a photo of a {}.",
    "OxfordFlowers": "a type of flower, a photo of a {}.",
    "FGVCAircraft": "a type of aircraft, a photo of a {}.",
    "DescribableTextures": "a texture of {}.",
    "Food101": "a type of food, a photo of {}.",
}


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.PROGRAD = CfgNode()
    cfg.TRAINER.PROGRAD.N_CTX = 16  # context vectors
    cfg.TRAINER.PROGRAD.CSC = False  # one context per class; needs TEMPLATE_INIT False
    cfg.TRAINER.PROGRAD.TEMPLATE_INIT = True  # initialise with the template's words, zeros before them; False = random
    cfg.TRAINER.PROGRAD.CLASS_TOKEN_POSITION = "end"  # end | middle | front
    cfg.TRAINER.PROGRAD.LAMBDA = 1.0  # fraction of the conflicting part that is removed
    cfg.TRAINER.PROGRAD.T = 1.0  # temperature of the zero-shot distribution
    cfg.TRAINER.PROGRAD.PREC = "fp16"  # fp32 | fp16 | amp | bf16


class ProGradStudent(CoOpStudent):
    """CoOp's student, initialised with the words of the data set's template, and the frozen class features.

    As in the official code, words are counted by spaces: "a type of pet, a photo of a" has 8 words but 9 tokens. The
    context starts from the first 8 tokens; the ninth stays frozen between the context and the class name.
    """

    cfg_key = "PROGRAD"

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], template: str = DEFAULT_TEMPLATE):
        settings = settings.clone()
        settings.defrost()
        words = template.partition("{}")[0].split()[-settings.N_CTX :] if settings.TEMPLATE_INIT else []
        padding = settings.N_CTX - len(words)
        settings.CTX_INIT = " ".join(["X"] * padding + words) if settings.TEMPLATE_INIT else ""
        super().__init__(settings, backbone, classnames, template)
        if settings.TEMPLATE_INIT:
            self.prompt_learner.ctx.data[:padding] = 0
        self.register_buffer("frozen_text", self.frozen_text_features(self.template), persistent=False)  # [C, D]

    def regularization_losses(self, batch: TrainBatch, output: StudentOutput) -> dict[str, Tensor]:
        """Return the cross entropy with the zero-shot distribution; not minimised, see `ProGrad.compute_gradients`."""
        zero_shot = self.logits(output.image_features, self.frozen_text)
        return {"kl": soft_cross_entropy(zero_shot, output.logits, self.settings.T).mean()}


@register
class ProGrad(PromptTrainer):
    """CoOp with few-shot labels, without gradients that conflict with the zero-shot CLIP."""

    student_class = ProGradStudent

    @classmethod
    def choose_template(cls, cfg: CfgNode, template: str) -> str:
        return TEMPLATES.get(cfg.DATASET.NAME, template)

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        settings = cfg.TRAINER.PROGRAD
        require(settings.T > 0, "TRAINER.PROGRAD.T", "above 0.0", settings.T)
        require(settings.LAMBDA >= 0, "TRAINER.PROGRAD.LAMBDA", "at least 0.0", settings.LAMBDA)
        if settings.CSC and settings.TEMPLATE_INIT:
            raise UserError(
                "TRAINER.PROGRAD.CSC True asks for a context for each class, but TRAINER.PROGRAD.TEMPLATE_INIT True "
                "starts one context for all classes. Set TRAINER.PROGRAD.TEMPLATE_INIT False for contexts of each class"
            )

    def compute_gradients(self, losses: dict[str, Tensor]) -> None:
        """Set each gradient to g = g_ce - lambda (g_ce . u) u where g_ce . g_kl < 0, u = g_kl / |g_kl|; else g_ce."""
        parameters, scale = self.optimization.parameters, self.optimization.scaler.scale
        labels = all_reduce_mean(torch.autograd.grad(scale(losses["cross_entropy"]), parameters, retain_graph=True))
        prior = all_reduce_mean(torch.autograd.grad(scale(losses["kl"]), parameters))
        for parameter, by_labels, by_prior in zip(parameters, labels, prior, strict=True):
            along = by_prior / by_prior.norm().clamp_min(torch.finfo(by_prior.dtype).tiny)
            against = (by_labels * along).sum().clamp_max(0)
            parameter.grad = by_labels - self.settings(self.cfg).LAMBDA * against * along
