"""Files with the class names of labels, such as classes.txt."""

import json
import re
from pathlib import Path

import yaml

from fdbpl.errors import UserError, enumerated

NAME_FILES = ("classes.txt", "class_names.txt", "classnames.txt", "labels.txt", "label_names.txt", "names.txt")


def names_of_numbers(labels: list[str], folder: Path) -> tuple[dict[str, str], str] | None:
    """Return names for labels that are the numbers 0, 1, 2 ... or 1, 2, 3 ..., from a text file with as many lines."""
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
