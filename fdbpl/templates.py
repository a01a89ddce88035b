"""Prompts from class names and templates, for trainers, region banks and command lines."""


def readable_name(name: str) -> str:
    """Return a class name as prompts contain it: with spaces in place of underscores, as in CoOp."""
    return name.replace("_", " ")


def fill_template(template: str, classnames: list[str]) -> list[str]:
    """Insert each class name in place of {} in `template`; other braces are plain text."""
    return [template.replace("{}", readable_name(name)) for name in classnames]
