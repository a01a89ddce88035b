"""ImageNet's layout: one folder of images for each synset (n01440764), and a file that names the synsets."""

import os
from pathlib import Path

from torchvision.datasets.folder import IMG_EXTENSIONS

from fdbpl.data.split_dataset import Item
from fdbpl.errors import UserError, quoted


def read_classnames(file: Path, remedy: str) -> dict[str, str]:
    """Class name of each synset, from lines like `n01440764 tench`.

    Raises:
        UserError: a line is something else, or a synset has two.
    """
    names: dict[str, str] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        synset, _, name = line.strip().partition(" ")
        if not synset:
            continue
        if not name or synset in names:
            raise UserError(
                f"expected lines of a synset and its class name, each synset once, in {file}, "
                f"found {quoted(line)}; {remedy}"
            )
        names[synset] = name.strip()
    return names


def class_folders(folder: Path, names: dict[str, str], remedy: str) -> list[tuple[str, str]]:
    """Sub-folders of `folder` with their class names, sorted: the place in this list is the label. Files are ignored.

    Raises:
        UserError: there are none, or one has no name.
    """
    found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise UserError(f"expected a folder for each class in {folder}, like n01440764, found none; {remedy}")
    nameless = [name for name in found if name not in names]
    if nameless:
        raise UserError(
            f"expected a class name in classnames.txt for each folder of {folder}, found none for {nameless[0]} "
            f"({len(nameless)} such folders); {remedy}"
        )
    return [(name, names[name]) for name in found]


def list_rows(images: Path, folders: list[tuple[str, str]]) -> list[Item]:
    """Rows of all images in `folders` (paths below `images`, with class names); the place in that list is the label.

    In sorted order, so that a few-shot draw does not depend on the file system. No image is opened or asked for its
    state, since there are a million of them.
    """
    rows: list[Item] = []
    for label, (folder, name) in enumerate(folders):
        with os.scandir(images / folder) as entries:
            files = sorted(
                entry.name for entry in entries if entry.name.lower().endswith(IMG_EXTENSIONS) and entry.name[0] != "."
            )
        rows += [(f"{folder}/{file}", label, name) for file in files]
    return rows
