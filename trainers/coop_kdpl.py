"""CoOp + KDPL: CoOp's context, learnt from a teacher without labels.

Mistretta et al., Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge Distillation,
ECCV 2024; `src/trainers/coop_kdpl.py` of miccunifi/KDPL.
"""

from .coop import CoOpStudent
from .prompt_trainer import PromptTrainer, register
from .supervision.online_teacher import OnlineTeacher


@register
class CoOp_KDPL(PromptTrainer):
    """CoOp, supervised by a teacher that runs in every step."""

    student_class = CoOpStudent
    supervision_class = OnlineTeacher
