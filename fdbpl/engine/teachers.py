"""Which teacher, and what it is asked."""

from yacs.config import CfgNode

from fdbpl.backbones import PRECISIONS, Backbone, load_backbone, resolve_precision, weights_sha256
from fdbpl.errors import UserError

from .prompted_teacher import RUN, TrainedTeacher, run_sha256
from .templates import DEFAULT_TEMPLATE, template_of


def check_cfg(cfg: CfgNode) -> None:
    refuse_template(cfg.TEACHER.TEMPLATE, "TEACHER.TEMPLATE")
    if cfg.TEACHER.PREC not in PRECISIONS:
        raise UserError(
            f"expected TEACHER.PREC of {', '.join(PRECISIONS)}, found {cfg.TEACHER.PREC!r}; choose one of these"
        )
    if cfg.TEACHER.TEMPLATE and cfg.TEACHER.NAME.startswith(RUN):
        raise UserError(
            f"expected no TEACHER.TEMPLATE with TEACHER.NAME {cfg.TEACHER.NAME}, whose prompts are learnt, found "
            f"{cfg.TEACHER.TEMPLATE!r}; leave it out"
        )


def refuse_template(text: str, key: str) -> None:
    """Refuse a template without a place for the class name; an empty one stands for the data set's."""
    if text and "{}" not in text:
        raise UserError(f'expected {{}} for the class name in {key}, found {text!r}; write e.g. "{DEFAULT_TEMPLATE}"')


def template(cfg: CfgNode, dataset) -> str:
    """The teacher's template: the configured one, else the data set's; a trained teacher is given the bare names."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return "{}"
    return cfg.TEACHER.TEMPLATE or template_of(cfg, dataset)


def load_teacher(cfg: CfgNode, dataset, device: str) -> Backbone:
    """The teacher that the configuration names, frozen."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return TrainedTeacher(cfg.TEACHER.NAME, template_of(cfg, dataset), device)
    resolve_precision(cfg.TEACHER.PREC, device, "TEACHER.PREC")
    return load_backbone(cfg.TEACHER.NAME, device, cfg.TEACHER.PREC)


def precision(cfg: CfgNode) -> str:
    """Of the teacher's towers; a run that teaches has the one it was trained in."""
    return "fp32" if cfg.TEACHER.NAME.startswith(RUN) else cfg.TEACHER.PREC


def teacher_sha256(cfg: CfgNode) -> str | None:
    """The `Backbone.sha256` of `load_teacher(cfg)`, without building it; None where only building tells."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return run_sha256(cfg.TEACHER.NAME)
    return weights_sha256(cfg.TEACHER.NAME)
