"""Lists of folders."""

import os
from pathlib import Path

from fdbpl.io.image_files import is_hidden, raise_unlistable


def entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder, sorted by name.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise_unlistable(error)


def visible_folders(folder: Path) -> list[Path]:
    """The sub-folders that are not hidden, and links to folders, sorted by name."""
    return [Path(entry.path) for entry in entries(folder) if not is_hidden(entry.name) and is_folder(entry)]


def is_folder(entry: os.DirEntry) -> bool:
    """Tell whether an entry is a folder or a link to one; a link to itself is neither."""
    try:
        return entry.is_dir()
    except OSError:
        return False
