"""CoOp: Learning to Prompt for Vision-Language Models (Zhou et al., IJCV 2022; `trainers/coop.py` of KaiyangZhou/CoOp).

Trains context vectors before, around or after the class name; image and text tower stay frozen.
"""

from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.engine.registry import register
from fdbpl.engine.student import Student
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer
from fdbpl.prompts import PromptLearner, Prompts


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TRAINER.COOP = CfgNode()
    cfg.TRAINER.COOP.N_CTX = 16  # context vectors; the words of CTX_INIT override it
    cfg.TRAINER.COOP.CSC = False  # one context per class
    cfg.TRAINER.COOP.CTX_INIT = ""  # words to start from; "" = random
    cfg.TRAINER.COOP.PREC = "fp16"  # fp32 | fp16 | amp
    cfg.TRAINER.COOP.CLASS_TOKEN_POSITION = "end"  # end | middle | front


class CoOpStudent(Student):
    """Context vectors at the input of CLIP's frozen text tower; the frozen image tower without prompts."""

    cfg_key = "COOP"

    def __init__(self, settings: CfgNode, backbone: Backbone, classnames: list[str], *template: str):
        super().__init__(settings, backbone, classnames, *template)
        self.prompt_learner = PromptLearner(
            backbone.model,
            classnames,
            settings.N_CTX,
            settings.CTX_INIT,
            settings.CSC,
            settings.CLASS_TOKEN_POSITION,
            ending=self.ending(),
        )

    def ending(self) -> str:
        """Return the text after the class name."""
        return "."

    def trainable_modules(self) -> dict[str, nn.Module]:
        return {"prompt_learner": self.prompt_learner}

    def prompts(self, image_features: Tensor | None = None) -> Prompts:
        return self.prompt_learner()


@register
class CoOp(PromptTrainer):
    """CoOp with few-shot labels."""

    student_class = CoOpStudent


@register
class CoOp_KDPL(CoOp):
    """CoOp, supervised by an online teacher (KDPL)."""

    supervision_class = OnlineTeacher
