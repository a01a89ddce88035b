"""Class names of the labels: from dataset.yaml, a file of names, the format, or the labels themselves."""

import json
import re
from pathlib import Path

import yaml

from fdbpl.class_names import check_distinct
from fdbpl.data.custom.description import Description, check_known
from fdbpl.data.custom.listing import Listing
from fdbpl.data.custom.split_names import split_of
from fdbpl.errors import UserError, enumerated, quoted

NAME_FILES = ("classes.txt", "class_names.txt", "classnames.txt", "labels.txt", "label_names.txt", "names.txt")
PREFIX = re.compile(r"(?:[0-9]+|n[0-9]{8})[._ -]+(?=[^\W\d])")  # of CUB's and ImageNet's folders


def class_names(place: Path, listing: Listing, description: Description) -> tuple[dict[str, str], str]:
    """Return {label: class name} in label order, and where the names come from.

    The order is that of dataset.yaml, then that of the format, then natural order.

    Raises:
        UserError: dataset.yaml names a label that does not exist, or a label gives no name.
    """
    labels = sorted({image.label for image in listing.images}, key=natural)
    file = description.file
    given, source = _given_names(labels, description)
    if not given and (found := _names_of_numbers(labels, description.folder)):
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
        if not names[label]:
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
    """Sorting key for natural order: numbers by value, letters without case."""
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


def _names_of_numbers(labels: list[str], folder: Path) -> tuple[dict[str, str], str] | None:
    """Names for labels that are the numbers 0, 1, 2 ... or 1, 2, 3 ..., from a text file with that many lines."""
    if not labels or not all(label.isdecimal() and len(label) < 7 for label in labels):
        return None
    files = [folder / name for name in NAME_FILES if (folder / name).is_file()]
    if len(files) != 1:
        return None
    try:
        return read_names(files[0], labels), files[0].name
    except UserError:
        return None


def read_names(file: Path, labels: list[str]) -> dict[str, str]:
    """Read {label: class name} from a JSON, YAML or text file.

    Lines of text are a label and a name (`3 tench`, `3,tench`, `n01440764: tench`), labels in their order, or, for
    labels that are numbers, the names in the order of the numbers.

    Raises:
        UserError: the file cannot be read, or fits the labels in none of these ways.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() in (".json", ".yaml", ".yml"):
            is_json = file.suffix.lower() == ".json"
            content = json.loads(text) if is_json else yaml.load(text, yaml.BaseLoader)  # noqa: S506 (plain strings)
        else:
            content = [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"the class names in {file} cannot be read ({' '.join(str(error).split())[:200]})") from error
    known = set(labels)
    if isinstance(content, dict) and all(isinstance(name, str) for name in content.values()):
        pairs = {str(label): name for label, name in content.items()}
        if known <= pairs.keys():
            return {label: name for label, name in pairs.items() if label in known}
    elif isinstance(content, list) and all(isinstance(line, str) for line in content):
        split = [re.split(r"\s*[,;:\t]\s*|\s+", line, maxsplit=1) for line in content]
        pairs = {pair[0]: pair[1].strip("\"'") for pair in split if len(pair) == 2}
        if known <= pairs.keys():
            return {label: name for label, name in pairs.items() if label in known}
        if set(content) == known:
            return dict.fromkeys(content, "")
        if all(label.isdecimal() for label in labels):
            first = 0 if "0" in known or len(content) > max(map(int, labels)) else 1
            numbers = {str(number): name for number, name in enumerate(content, first)}
            by_value = {str(int(label)): label for label in labels}
            if by_value.keys() <= numbers.keys():
                return {by_value[number]: name for number, name in numbers.items() if number in by_value}
    raise UserError(
        f"the class names in {file} do not fit the {len(labels)} labels ({enumerated(labels, 3)}). Write one label and "
        "its name per line"
    )
