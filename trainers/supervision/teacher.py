"""Which teacher, and what it is asked."""

from yacs.config import CfgNode

from fdbpl.errors import UserError

DEFAULT_TEMPLATE = "a photo of a {}."


def extend_cfg(cfg: CfgNode) -> None:
    cfg.TEACHER = CfgNode()
    cfg.TEACHER.NAME = "open_clip:ViT-H-14-quickgelu/dfn5b"  # any name of fdbpl.backbones
    cfg.TEACHER.TEMPLATE = ""  # text around the class name; "" = the data set's template
    cfg.TEACHER.PREC = "fp32"  # fp32 | fp16 | bf16


def check_cfg(cfg: CfgNode) -> None:
    refuse_template(cfg.TEACHER.TEMPLATE, "TEACHER.TEMPLATE")


def refuse_template(text: str, key: str) -> None:
    """Refuse a template without a place for the class name; an empty one stands for the data set's."""
    if text and "{}" not in text:
        raise UserError(f'expected {{}} for the class name in {key}, found {text!r}; write e.g. "{DEFAULT_TEMPLATE}"')


def template(cfg: CfgNode, dataset) -> str:
    """The teacher's template: the configured one, else the data set's."""
    return cfg.TEACHER.TEMPLATE or getattr(dataset, "template", DEFAULT_TEMPLATE)


def prompts(text: str, classnames: list[str]) -> list[str]:
    """`text` filled with each class name; `_` is read as a space."""
    return [text.format(name.replace("_", " ")) for name in classnames]
