"""The teacher that a configuration names: loading, prompt template, precision and hash."""

from yacs.config import CfgNode

from fdbpl.backbones import PRECISIONS, Backbone, load_backbone, resolve_precision, weights_sha256
from fdbpl.errors import UserError

from .prompted_teacher import RUN, PromptedTeacher, run_sha256
from .settings import check_template, require
from .templates import template_of

__all__ = ["RUN", "check_cfg", "load_teacher", "precision", "teacher_sha256", "teacher_template"]


def check_cfg(cfg: CfgNode) -> None:
    """Raise a UserError for TEACHER settings that cannot work."""
    check_template(cfg.TEACHER.TEMPLATE, "TEACHER.TEMPLATE")
    require(cfg.TEACHER.PREC in PRECISIONS, "TEACHER.PREC", f"one of {', '.join(PRECISIONS)}", cfg.TEACHER.PREC)
    if cfg.TEACHER.TEMPLATE and cfg.TEACHER.NAME.startswith(RUN):
        raise UserError(
            f"TEACHER.TEMPLATE {cfg.TEACHER.TEMPLATE!r} cannot be used with TEACHER.NAME {cfg.TEACHER.NAME}, whose "
            "prompts are learned; leave it out"
        )


def load_teacher(cfg: CfgNode, dataset, device: str) -> Backbone:
    """Load the frozen teacher."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return PromptedTeacher(cfg.TEACHER.NAME, template_of(cfg, dataset), device)
    resolve_precision(cfg.TEACHER.PREC, device, "TEACHER.PREC")
    return load_backbone(cfg.TEACHER.NAME, device, cfg.TEACHER.PREC)


def teacher_template(cfg: CfgNode, dataset) -> str:
    """Return the template of the teacher's texts: TEACHER.TEMPLATE, else the data set's; "{}" for learned prompts."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return "{}"
    return cfg.TEACHER.TEMPLATE or template_of(cfg, dataset)


def precision(cfg: CfgNode) -> str:
    """Return the precision of the teacher's towers; a run that serves as the teacher computes in float32."""
    return "fp32" if cfg.TEACHER.NAME.startswith(RUN) else cfg.TEACHER.PREC


def teacher_sha256(cfg: CfgNode) -> str | None:
    """Return the `Backbone.sha256` of the teacher without loading it; None if it is known only after loading."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return run_sha256(cfg.TEACHER.NAME)
    return weights_sha256(cfg.TEACHER.NAME)
