"""The teacher that a configuration names: loading, prompts, precision and hash."""

from pathlib import Path

from yacs.config import CfgNode

from fdbpl.backbones import PRECISIONS, Backbone, load_backbone, resolve_precision, weights_sha256
from fdbpl.errors import UserError, enumerated, quoted
from fdbpl.io.atomic import read_record
from fdbpl.templates import fill_template, readable_name

from .prompted_teacher import RUN, PromptedTeacher, run_sha256
from .settings import check_template, require
from .templates import IMAGENET_TEMPLATES_SELECT, template_of

__all__ = ["RUN", "check_cfg", "load_teacher", "precision", "second_teacher", "teacher_prompts", "teacher_sha256"]

IMAGENET = "imagenet"  # TEACHER.TEMPLATES: CLIP's selected templates for ImageNet, and the data set's
COMBINATIONS = ("mean", "confidence")


def check_cfg(cfg: CfgNode) -> None:
    """Raise a UserError for TEACHER settings that cannot work."""
    check_template(cfg.TEACHER.TEMPLATE, "TEACHER.TEMPLATE")
    require(cfg.TEACHER.PREC in PRECISIONS, "TEACHER.PREC", f"one of auto, {', '.join(PRECISIONS)}", cfg.TEACHER.PREC)
    for key in ("TEMPLATE", "TEMPLATES"):
        if cfg.TEACHER[key] and cfg.TEACHER.NAME.startswith(RUN):
            raise UserError(
                f"TEACHER.{key} {cfg.TEACHER[key]!r} cannot be used with TEACHER.NAME {cfg.TEACHER.NAME}, whose "
                "prompts are learned; leave it out"
            )
    if cfg.TEACHER.TEMPLATES not in ("", IMAGENET):
        _read_descriptions(cfg.TEACHER.TEMPLATES)
    second, combine = second_teacher(cfg), cfg.TEACHER.SECOND.COMBINE
    require(combine in COMBINATIONS, "TEACHER.SECOND.COMBINE", " or ".join(COMBINATIONS), combine)
    if second is not None:
        name = second.TEACHER.NAME
        require(name != cfg.TEACHER.NAME, "TEACHER.SECOND.NAME", "another teacher than TEACHER.NAME", name)
        check_cfg(second)


def second_teacher(cfg: CfgNode) -> CfgNode | None:
    """Return the configuration with the second teacher as its teacher; None without a second teacher."""
    if not cfg.TEACHER.SECOND.NAME:
        return None
    other = cfg.clone()
    other.defrost()
    other.TEACHER.NAME, other.TEACHER.SECOND.NAME = cfg.TEACHER.SECOND.NAME, ""
    other.freeze()
    return other


def load_teacher(cfg: CfgNode, dataset, device: str) -> Backbone:
    """Load the frozen teacher."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return PromptedTeacher(cfg.TEACHER.NAME, template_of(cfg, dataset), device)
    resolve_precision(cfg.TEACHER.PREC, device, "TEACHER.PREC")
    return load_backbone(cfg.TEACHER.NAME, device, cfg.TEACHER.PREC)


def teacher_prompts(cfg: CfgNode, dataset, classnames: list[str], words: list[str] | None = None) -> list[str]:
    """Return the teacher's prompts of class names, then of vocabulary words.

    The lines of a prompt are averaged by `Backbone.encode_text`: one for each template of TEACHER.TEMPLATES imagenet,
    or for each sentence of a file of descriptions, which words do not have. Otherwise a prompt is one line, the name in
    TEACHER.TEMPLATE or the data set's template; with learned prompts it is the bare name.

    Raises:
        UserError: the file of descriptions cannot be read, or lacks classes.
    """
    template = cfg.TEACHER.TEMPLATE or template_of(cfg, dataset)
    words, templates = words or [], [template]
    if cfg.TEACHER.NAME.startswith(RUN):
        templates = ["{}"]
    elif cfg.TEACHER.TEMPLATES == IMAGENET:
        templates = [*IMAGENET_TEMPLATES_SELECT, template]
    elif cfg.TEACHER.TEMPLATES:
        return _describe(cfg.TEACHER.TEMPLATES, classnames) + fill_template(template, words)
    filled = [fill_template(one, classnames + words) for one in templates]
    return ["\n".join(lines) for lines in zip(*filled, strict=True)]


def _describe(file: str, classnames: list[str]) -> list[str]:
    """Return the sentences of each class, one per line; spelling with capitals or underscores does not matter."""
    found = {readable_name(name).lower(): sentences for name, sentences in _read_descriptions(file).items()}
    missing = [name for name in classnames if readable_name(name).lower() not in found]
    if missing:
        raise UserError(
            f"{file} (TEACHER.TEMPLATES) describes {len(classnames) - len(missing)} of {len(classnames)} classes; add "
            f"sentences for {enumerated(missing, 3)}"
        )
    return ["\n".join(" ".join(line.split()) for line in found[readable_name(name).lower()]) for name in classnames]


def _read_descriptions(file: str) -> dict[str, list[str]]:
    """Read a JSON file {class: [sentences]}, the format of CuPL (Pratt et al., ICCV 2023)."""
    form = "a JSON file {class: [sentences]} (TEACHER.TEMPLATES)"
    content = read_record(Path(file).expanduser(), form)
    for name, sentences in content.items():
        lines = sentences if isinstance(sentences, list) else []
        if not (lines and all(isinstance(line, str) and line.strip() for line in lines)):
            raise UserError(f"{file} should be {form}, but has no list of sentences for {quoted(name)}; correct it")
    return content


def precision(cfg: CfgNode) -> str:
    """Return the precision of the teacher's towers; a run that serves as the teacher computes in float32."""
    return "fp32" if cfg.TEACHER.NAME.startswith(RUN) else cfg.TEACHER.PREC


def teacher_sha256(cfg: CfgNode) -> str | None:
    """Return the `Backbone.sha256` of the teacher without loading it; None if it is known only after loading."""
    if cfg.TEACHER.NAME.startswith(RUN):
        return run_sha256(cfg.TEACHER.NAME)
    return weights_sha256(cfg.TEACHER.NAME)
