"""Lists of folders and of the images below them."""

import os
from pathlib import Path

from fdbpl.data.custom.description import FILE_NAMES
from fdbpl.data.custom.listing import Listing
from fdbpl.io.image_files import Skipped, images_below, is_hidden, raise_unlistable


def entries(folder: Path) -> list[os.DirEntry]:
    """Return the entries of a folder, sorted by name.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise_unlistable(error)


def visible_folders(folder: Path) -> list[Path]:
    """Return the sub-folders, without hidden ones and with links to folders, sorted by name."""
    return [Path(entry.path) for entry in entries(folder) if not is_hidden(entry.name) and is_folder(entry)]


def list_images(folder: Path, listing: Listing) -> list[str]:
    """Return the absolute paths of the images below a folder; record other files in the listing as skipped."""
    skipped = Skipped()
    images = images_below(str(folder), skipped)
    listing.hidden += skipped.hidden
    listing.linked += skipped.linked
    for path in skipped.others:
        if os.path.dirname(path) != str(listing.folder) or os.path.basename(path) not in FILE_NAMES:
            listing.skip(path, "not an image")
    return images


def is_folder(entry: os.DirEntry) -> bool:
    """Return whether an entry is a folder or a link to one; a link to itself is neither."""
    try:
        return entry.is_dir()
    except OSError:
        return False
