"""Search for image files."""

import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import NoReturn

from PIL import Image

from fdbpl.errors import UserError, enumerated

COMMON = (".jpg", ".png", ".webp", ".gif", ".bmp", ".tif")  # common image extensions, for messages
OTHER_KINDS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # Pillow opens them, but needs other programs to decode
SYSTEM_NAMES = {
    "__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information", "lost+found",
}  # fmt: skip


def find_images(places: list[str]) -> tuple[list[str], "Skipped"]:
    """Find image files in folders (as `images_below` does), single files, and files that match patterns.

    A file given by its own path or by a pattern is included independent of its extension. Each file is listed once.

    Raises:
        UserError: a place does not exist, or holds no image.
    """
    found: list[str] = []
    skipped = Skipped()
    for place in places:
        if os.path.isdir(place):
            found += images_below(place, skipped)
        elif os.path.isfile(place):
            found.append(place)
        else:
            matches = sorted(glob.glob(place, recursive=True))
            if not matches:
                raise UserError(f"There is no file or folder {place}. Give an image, a folder or a pattern")
            named = set(place.split(os.sep))
            for match in matches:
                if any(is_hidden(part) for part in set(match.split(os.sep)) - named):
                    skipped.hidden += 1
                else:
                    found += images_below(match, skipped) if os.path.isdir(match) else [match]
    if not found:
        raise UserError(
            f"There is no image in {enumerated(places)}{f' (skipped: {skipped})' if skipped else ''}. Images are files "
            f"with an extension that Pillow reads ({', '.join(COMMON)} ...). Check the folder"
        )
    return list(dict.fromkeys(found)), skipped


@dataclass
class Skipped:
    """Files and folders that a search for images skipped.

    Attributes:
        hidden: hidden files and folders (a folder counts once).
        others: paths of files that are not images.
        linked: links to folders that were searched already.
    """

    hidden: int = 0
    others: list[str] = field(default_factory=list)
    linked: int = 0

    def __bool__(self) -> bool:
        return bool(self.hidden or self.others or self.linked)

    def __str__(self) -> str:
        endings = Counter(os.path.splitext(path)[1].lower() for path in self.others)
        kinds = ", ".join(f"{ending or 'without ending'} {count}" for ending, count in endings.most_common(5))
        names = enumerated(map(os.path.basename, self.others), 3)
        counts = (
            (self.hidden, f"{self.hidden} hidden"),
            (self.others, f"{len(self.others)} that are not images ({kinds}: {names})"),
            (self.linked, f"{self.linked} links to folders that were searched already"),
        )
        return ", ".join(text for count, text in counts if count)


def images_below(folder: str, skipped: Skipped) -> list[str]:
    """Find image files in a folder and its subfolders, sorted by name; follow links. Add other files to `skipped`.

    Raises:
        UserError: a folder cannot be read.
    """
    images: list[str] = []
    searched: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=raise_unlistable):
        real = os.path.realpath(parent)
        if real in searched:  # including links back to a parent folder
            skipped.linked += 1
            folders.clear()
            continue
        searched.add(real)
        skipped.hidden += sum(map(is_hidden, [*folders, *files]))
        visible = (name for name in folders if not is_hidden(name))
        folders[:] = sorted(visible, key=lambda name: (os.path.islink(os.path.join(parent, name)), name))
        for name in sorted(files):
            path = os.path.join(parent, name)
            if is_image(name):
                images.append(path)
            elif not is_hidden(name):
                skipped.others.append(path)
    return images


def is_image(name: str) -> bool:
    """Return whether a file counts as an image: it is not hidden, and Pillow decodes files with its extension."""
    base = os.path.basename(name)
    return not is_hidden(base) and os.path.splitext(base)[1].lower() in _endings()


def is_hidden(name: str) -> bool:
    """Return whether file managers hide a file of this name, or operating systems create it."""
    return name.startswith(".") or name in SYSTEM_NAMES


@cache
def _endings() -> set[str]:
    return {
        ending
        for ending, kind in Image.registered_extensions().items()
        if kind in Image.OPEN and kind not in OTHER_KINDS
    }


def raise_unlistable(error: OSError) -> NoReturn:
    """Raise a UserError for a folder that cannot be listed, rather than skipping its images silently."""
    raise UserError(
        f"The folder {error.filename} cannot be read ({error.strerror}). Change its permissions, move it away, or "
        "give the other folders instead"
    ) from error
