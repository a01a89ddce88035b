"""Class names in sentences, in one way for trainers, region banks and command lines."""


def readable_name(name: str) -> str:
    """A class name as it is written in a prompt: an underscore is read as a space, as in CoOp."""
    return name.replace("_", " ")


def fill_template(template: str, classnames: list[str]) -> list[str]:
    """`template` with each class name in place of {}; nothing else in it has a meaning."""
    return [template.replace("{}", readable_name(name)) for name in classnames]
