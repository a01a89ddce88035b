"""Class names of the labels: from dataset.yaml, a file of names, the format, or the labels themselves."""

import re
from pathlib import Path

from fdbpl.class_names import check_distinct
from fdbpl.data.custom.description import Description, check_known
from fdbpl.data.custom.listing import Listing
from fdbpl.data.custom.name_files import names_of_numbers, read_names
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.rows import is_text
from fdbpl.errors import UserError, enumerated, quoted

PREFIX = re.compile(r"(?:[0-9]+|n[0-9]{8})[._ -]+(?=[^\W\d])")  # of CUB's and ImageNet's folders


def class_names(place: Path, listing: Listing, description: Description) -> tuple[dict[str, str], str]:
    """Return {label: class name} in label order, and the source of the names.

    The order is that of dataset.yaml, then that of the format, then natural order.

    Raises:
        UserError: dataset.yaml names a label that does not exist, or a label gives no name.
    """
    labels = sorted({image.label for image in listing.images}, key=natural)
    file = description.file
    given, source = _given_names(labels, description)
    if not given and (found := names_of_numbers(labels, description.folder)):
        given, source = found
        listing.guesses.append(f"class names of the numbers: {source} (classes in {file.name} names another file)")
    for label in given:
        check_known(label, labels, f"classes of {place}", source)
    known = [label for label in listing.names if label in set(labels)]
    order = list(dict.fromkeys([*given, *known, *labels]))
    strip = re.compile(description.strip_prefix) if description.strip_prefix else None
    names = {}
    for label in order:
        name = given.get(label) or listing.names.get(label) or _readable(label, strip)
        names[label] = " ".join(name.split())
        if not names[label] or not is_text(names[label]):
            raise UserError(f"{quoted(label)} in {place} gives no class name; give one under classes in {file}")
    if given:
        return names, source
    if listing.names:
        return names, listing.format
    if strip:
        return names, f"labels without the prefix {description.strip_prefix!r} of {file.name}"
    if len(order) > 1 and all(map(PREFIX.match, order)):
        listing.guesses.append(
            f"class names keep their prefixes ({quoted(order[0])}); strip_prefix in {file.name} removes them: "
            f"strip_prefix: '{_strip_example(order)}'"
        )
    return names, "default: labels in natural order, with _ and - as spaces"


def check_classes(place: Path, names: dict[str, str], description: Description, minimum: int = 2) -> None:
    """Check that there are at least `minimum` classes, which CLIP can tell apart, and that none is a split.

    Raises:
        UserError: otherwise.
    """
    splits = {split_of(label): label for label in names if label not in description.classes and split_of(label)}
    if "train" in splits and len(splits) > 1:
        raise UserError(
            f"the classes {enumerated(splits.values(), 3)} of {place} are named like splits; give the split in a "
            f"column of its own, or, if they are classes, list them under classes in {description.file}"
        )
    if not names:
        raise UserError(f"{place} lists no images; add some")
    if len(names) < minimum:
        raise UserError(
            f"{place} has only the class {enumerated(names.values(), 3)}, but at least two are needed; add another "
            "(base-to-new needs four, two for each half)"
        )
    check_distinct(list(names.values()), str(place), f"rename one, or give names in {description.file}")


def natural(text: str) -> list:
    """Return the sorting key for natural order: numbers by value, letters without case."""
    words = re.split("([0-9]+)", text.casefold())
    return [[int(word) if number % 2 else word for number, word in enumerate(words)], text]


def _readable(label: str, strip: re.Pattern | None) -> str:
    rest = strip.sub("", label, count=1) if strip and strip.match(label) else label
    return re.sub("[_-]", " ", rest)


def _strip_example(labels: list[str]) -> str:
    letter = "n" if all(label.startswith("n") for label in labels) else ""
    return f"{letter}[0-9]+[._-]"


def _given_names(labels: list[str], description: Description) -> tuple[dict[str, str], str]:
    if description.class_file:
        file = description.folder / description.class_file
        return read_names(file, labels), str(file)
    return description.classes, str(description.file)
