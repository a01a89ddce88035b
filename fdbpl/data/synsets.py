"""ImageNet's layout: one image folder per synset (n01440764), and a file with the class names of the synsets."""

import os
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from fdbpl.data.rows import Item
from fdbpl.errors import UserError, quoted


def read_classnames(file: Path, remedy: str) -> dict[str, str]:
    """Read the class name of each synset from lines such as `n01440764 tench`.

    Raises:
        UserError: a line has another form, or a synset occurs twice.
    """
    names: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        synset, _, name = line.strip().partition(" ")
        if not synset:
            continue
        if not name or synset in names:
            problem = "repeats a synset" if synset in names else "is not a synset and a class name"
            raise UserError(f"the line {quoted(line)} of {file} {problem}; {remedy}")
        names[synset] = name.strip()
    return names


def class_folders(folder: Path, names: dict[str, str], remedy: str) -> list[tuple[str, str]]:
    """List the sub-folders of `folder` with their class names, sorted; the position is the label. Files are ignored.

    Raises:
        UserError: there are no sub-folders, or one has no class name.
    """
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise UserError(f"{folder} has no class folders such as n01440764; {remedy}")
    nameless = [name for name in found if name not in names]
    if nameless:
        raise UserError(
            f"classnames.txt has no class name for the folder {nameless[0]} of {folder} ({len(nameless)} such "
            f"folders); {remedy}"
        )
    return [(name, names[name]) for name in found]


def list_rows(images: Path, folders: list[tuple[str, str]]) -> list[Item]:
    """Return rows of all images in `folders`: (path below `images`, class name); the position there is the label.

    Files are sorted, so that a few-shot draw does not depend on the file system. No image is opened or stat'ed:
    ImageNet has more than a million.
    """
    rows: list[Item] = []
    for label, (folder, name) in enumerate(folders):
        with os.scandir(images / folder) as entries:
            files = sorted(
                entry.name for entry in entries if entry.name.lower().endswith(IMG_EXTENSIONS) and entry.name[0] != "."
            )
        rows += [(f"{folder}/{file}", label, name) for file in files]
    return rows
