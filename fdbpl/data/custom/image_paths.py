"""Search of a table's images: paths as written, or with other separators, folders, endings or case."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from fdbpl.data.custom.listing import Listing, check_utf8, relative_path
from fdbpl.errors import UserError, enumerated, shortened
from fdbpl.io.image_files import Skipped, images_below


def find_images(folder: Path, paths: dict[int, str], listing: Listing, ending: str, source: str) -> dict[int, str]:
    """Return {line: path below the folder of the listing} of a table's images.

    A path that does not exist as it is written is searched below `folder`: the file's path must end with it, or it
    with the file's path. Images that are missing keep their paths, and are unreadable later.

    Args:
        folder: folder that the paths start from. source: the table, for messages.
        ending: added to paths that lack it.

    Raises:
        UserError: half of the images are missing, a path fits several files, or an image is not below the folder.
    """
    written = {line: path if path.endswith(ending) else path + ending for line, path in paths.items()}
    found = _existing(folder, written)
    missing = {line: path for line, path in written.items() if line not in found}
    if missing:
        index = ImageIndex(folder)
        searched = {line: index.search(path, source) for line, path in missing.items()}
        searched = {line: file for line, file in searched.items() if file}
        if searched:
            line, file = next(iter(searched.items()))
            listing.guesses.append(
                f"{len(searched)} of {len(paths)} paths do not exist as written and were searched below {folder}: "
                f"{shortened(paths[line])} is {os.path.relpath(file, folder)}"
            )
        found.update(searched)
    missing = {line: path for line, path in written.items() if line not in found}
    if missing:
        _check_missing(folder, missing, len(paths), source)
        found.update({line: os.path.join(folder, path) for line, path in missing.items()})
    return {line: relative_path(listing.folder, found[line]) for line in paths}


def _existing(folder: Path, paths: dict[int, str]) -> dict[int, str]:
    """Return {line: absolute path} of the files that exist as written; lists each folder once."""
    names: dict[str, set[str]] = {}
    found = {}
    for line, path in paths.items():
        file = os.path.normpath(os.path.join(folder, path)) if "\0" not in path else ""
        parent, name = os.path.split(file)
        if parent not in names:
            names[parent] = _files_in(parent)
        if name and name in names[parent]:
            found[line] = file
    return found


def _files_in(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if not entry.is_dir()}
    except (OSError, ValueError):
        return set()


def _check_missing(folder: Path, missing: dict[int, str], count: int, source: str) -> None:
    first = next(iter(missing.values()))
    if re.match(r"\w{2,}://", first):
        raise UserError(f"{source} lists URLs ({shortened(first)}); download the images and list their files")
    for path in missing.values():
        relative_path(folder, os.path.normpath(os.path.join(folder, path)))
    if 2 * len(missing) > count:
        raise UserError(
            f"images of {source} are missing: {len(missing)} of {count} ({enumerated(missing.values(), 3)}); paths "
            f"start from {folder}. Give the folder of the images or their ending in dataset.yaml (images: FOLDER, "
            "ending: .jpg)"
        )


class ImageIndex:
    """Images below a folder by name, by name without case, by name without ending, and by number."""

    keys: tuple[Callable[[str], str], ...] = (
        lambda name: name,
        lambda name: name.casefold(),
        lambda name: os.path.splitext(name.casefold())[0],
        lambda name: os.path.splitext(name)[0].lstrip("0") or "0",
    )

    def __init__(self, folder: Path):
        self.folder = folder
        self.tables: list[dict[str, list[list[str]]]] = [{} for _ in self.keys]
        for file in images_below(str(folder), Skipped()):
            parts = relative_path(folder, file).split("/")
            for key, table in zip(self.keys, self.tables, strict=True):
                table.setdefault(key(parts[-1]), []).append(parts)

    def search(self, path: str, source: str) -> str:
        """Return the absolute path of the image that `path` means; "" if there is none.

        Raises:
            UserError: several images fit equally well.
        """
        check_utf8(path, self.folder)
        wanted = [part for part in re.split(r"[\\/]+", re.sub(r"^[A-Za-z]:", "", path)) if part not in ("", ".", "..")]
        if not wanted:
            return ""
        number = wanted[-1].isdecimal()
        candidates = (wanted[-1], wanted[-1].casefold(), wanted[-1].casefold(), wanted[-1].lstrip("0") or "0")
        for level, (table, name) in enumerate(zip(self.tables, candidates, strict=True)):
            if level == 3 and not number:
                break
            fitting = [parts for parts in table.get(name, []) if _is_suffix(parts[:-1], wanted[:-1])]
            if len(fitting) > 1:
                longest = max(min(len(parts), len(wanted)) for parts in fitting)
                fitting = [parts for parts in fitting if min(len(parts), len(wanted)) == longest]
            if len(fitting) > 1:
                names = enumerated(["/".join(parts) for parts in fitting], 3)
                raise UserError(
                    f"{shortened(path)} of {source} fits {len(fitting)} images below {self.folder} ({names}); give the "
                    "folder of the images (images in dataset.yaml)"
                )
            if fitting:
                return os.path.join(self.folder, *fitting[0])
        return ""


def _is_suffix(one: list[str], other: list[str]) -> bool:
    """Return whether the longer list of folders ends with the shorter one, regardless of case."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return all(first.casefold() == second.casefold() for first, second in pairs)
