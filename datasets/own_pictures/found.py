"""What lies in a folder of pictures, or in a CSV of path,class[,split], and what of it is no picture of a class."""

import csv
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from datasets.own_pictures.split import PARTS
from fdbpl.errors import UserError, quoted, shortened
from fdbpl.image_files import Skipped, images_below, is_hidden, refuse_folder

PART_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        path: below the folder.
        label: its class folder, or its class in the CSV.
        part: train, val or test; "" where nobody said.
    """

    path: str
    label: str
    part: str


@dataclass
class Found:
    """What lies in a place, and what of it is no picture of a class."""

    folder: Path
    pictures: list[Picture] = field(default_factory=list)
    source: str = ""  # of the parts, for the print
    outside: int = 0  # files in none of the class folders
    others: Skipped = field(default_factory=Skipped)

    def skipped(self) -> str:
        counts = ((self.others, str(self.others)), (self.outside, f"{self.outside} outside of the class folders"))
        return ", ".join(text for count, text in counts if count)


def find_in_folder(folder: Path) -> Found:
    """Pictures of FOLDER/CLASS/..., or of FOLDER/{train,val,test}/CLASS/... where there are no other sub-folders."""
    found = Found(folder)
    inner = _subfolders(folder, found)
    parts = {path: PART_FOLDERS.get(path.name.lower(), "") for path in inner}
    if len(inner) > 1 and all(parts.values()) and "train" in parts.values():
        found.source = f"folders {', '.join(sorted(path.name for path in inner))}"
        classes = [(path, parts[outer]) for outer in inner for path in _subfolders(outer, found)]
    else:
        classes = [(path, "") for path in inner]
    if not classes:
        raise UserError(
            f"expected a sub-folder for each class in {folder}, found none; sort the pictures into folders that are "
            "called as their classes, or give a CSV of path,class"
        )
    for path, part in classes:
        for file in images_below(str(path), found.others):
            found.pictures.append(Picture(_below(folder, Path(file)), path.name, part))
    empty = sorted({path.name for path, _ in classes} - {picture.label for picture in found.pictures})
    if empty:
        raise UserError(
            f"expected pictures in every class folder of {folder}, found none in {listed(empty)}"
            f"{' (skipped: ' + found.skipped() + ')' if found.skipped() else ''}; add some or take the folder away"
        )
    return found


def read_csv(file: Path) -> Found:
    """Pictures of a CSV with columns path, class and, if it likes, split; paths start from the CSV's folder."""
    folder, found = file.parent, Found(file.parent)
    try:
        text = file.read_text(encoding="utf-8-sig")
        header = text.partition("\n")[0]
        reader = csv.DictReader(StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
        columns = {(name or "").strip().lower(): name for name in reader.fieldnames or []}
        table = list(reader)
        if "\0" in text:
            raise csv.Error("a zero byte")  # which csv itself reports up to Python 3.10
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"expected a CSV in UTF-8 at {file}, found something else ({error}); mend the file") from error
    if not {"path", "class"} <= columns.keys():
        raise UserError(
            f"expected columns path, class and, if you like, split in the first line of {file}, found "
            f"{listed(list(columns)) or 'none'}; name them so"
        )
    rows = {}
    for number, row in enumerate(table, start=2):
        path, label, part = ((row.get(columns.get(key)) or "").strip() for key in ("path", "class", "split"))
        if not path or not label:
            raise UserError(
                f"expected a path and a class in row {number} of {file}, found only {quoted(path or label)}; complete it"
            )
        if part and part.lower() not in PART_FOLDERS:
            raise UserError(
                f"expected a split of {', '.join(PARTS)} in row {number} of {file}, found {quoted(part)}; mend it"
            )
        path = _below(folder, Path(os.path.normpath(folder / path)))
        if path in rows:
            raise UserError(
                f"expected every picture once in {file}, found {quoted(path)} again in row {number}; leave one"
            )
        rows[path] = label, PART_FOLDERS.get(part.lower(), "")
    with ThreadPoolExecutor(16) as pool:
        there = dict(zip(rows, pool.map(lambda path: os.path.isfile(folder / path), rows), strict=True))
    missing = [path for path, is_file in there.items() if not is_file]
    if missing:
        raise UserError(
            f"expected pictures at the {len(rows)} paths of {file}, found {len(missing)} missing ({listed(missing)}); "
            "paths start from the CSV's folder"
        )
    unsplit = [path for path, (_, part) in rows.items() if not part]
    if unsplit and len(unsplit) < len(rows):
        raise UserError(
            f"expected a split in every row of {file} or in none, found none for {listed(unsplit)}; complete it"
        )
    found.source = "" if unsplit else "column split"
    found.pictures = [Picture(path, label, part) for path, (label, part) in rows.items()]
    return found


def _subfolders(folder: Path, found: Found) -> list[Path]:
    """Visible sub-folders; hidden things and files beside them are counted."""
    inside = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        refuse_folder(error)
    for entry in entries:
        if is_hidden(entry.name):
            found.others.hidden += 1
        elif os.path.isdir(entry.path):
            inside.append(Path(entry.path))
        elif entry.name != "dataset.yaml":
            found.outside += 1
    return inside


def _below(folder: Path, file: Path) -> str:
    """Path relative to the folder, with /, as rows have it."""
    relative = os.path.relpath(file, folder).replace(os.sep, "/")
    if relative.startswith("../"):
        raise UserError(f"expected pictures below {folder}, found {file}; put the CSV above all its pictures")
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise UserError(f"expected file names in UTF-8 below {folder}, found {relative!a}; rename it") from None
    return relative


def listed(words: list[str], count: int = 3) -> str:
    return ", ".join(map(shortened, words[:count])) + (f" ... ({len(words)})" if len(words) > count else "")
