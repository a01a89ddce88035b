"""KDPL: Improving Zero-shot Generalization of Learned Prompts via Unsupervised Knowledge Distillation.

Mistretta et al., ECCV 2024; `src/trainers/*_kdpl.py` of miccunifi/KDPL. Any student, with a teacher in every step in
place of the labels: `CoOp_KDPL`, `MaPLe_KDPL` ... A method's own terms (PromptSRC's, KgCoOp's) stay.
"""

from fdbpl.engine.registry import register
from fdbpl.engine.supervision.online_teacher import OnlineTeacher
from fdbpl.engine.trainer import PromptTrainer

from .cocoop import CoCoOp
from .coop import CoOp
from .ivlp import IVLP
from .kgcoop import KgCoOp
from .maple import MaPLe
from .promptsrc import PromptSRC
from .tcp import TCP
from .vpt import VPT


def with_online_teacher(method: type[PromptTrainer]) -> type[PromptTrainer]:
    """`method`, supervised by KDPL's teacher; registered as <method>_KDPL."""
    doc = f"{method.__name__}, supervised by a teacher that runs in every step."
    return register(type(f"{method.__name__}_KDPL", (method,), {"supervision_class": OnlineTeacher, "__doc__": doc}))


for _method in (CoOp, CoCoOp, VPT, IVLP, MaPLe, PromptSRC, KgCoOp, TCP):
    with_online_teacher(_method)
