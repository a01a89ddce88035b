"""Pictures of a user's own: a folder with one sub-folder per class, or a CSV of path,class[,split]."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fdbpl.class_names import check_distinct
from fdbpl.data.image_folder.description import Description, read_description, refuse_unknown
from fdbpl.data.image_folder.scan import Found, find_in_folder
from fdbpl.data.image_folder.split import PARTS, hashed_split
from fdbpl.data.image_folder.split_names import split_of
from fdbpl.data.image_folder.table import read_csv
from fdbpl.errors import UserError, enumerated, quoted

TEMPLATE = "a photo of a {}."
SHARES = (0.5, 0.2, 0.3)  # CoOp's, of train, val and test


@dataclass(frozen=True)
class OwnPictures:
    """A data set.

    Attributes:
        folder: that the rows' paths start from, absolute.
        name: for run folders and results.
        rows: (path, label, class name) of train, val and test.
        notes: what was found and assumed, a line each.
    """

    folder: Path
    name: str
    template: str
    rows: dict[str, list[tuple[str, int, str]]]
    notes: list[str]

    @property
    def classnames(self) -> list[str]:
        return [name for _, name in sorted({row[1:] for rows in self.rows.values() for row in rows})]

    @property
    def digest(self) -> str:
        """Of template and rows: another one is another data set."""
        return hashlib.sha256(json.dumps([self.template, self.rows]).encode()).hexdigest()[:12]


def read_own_pictures(place: str) -> OwnPictures:
    """The data set in the folder or CSV `place`, with what a dataset.yaml beside the pictures says.

    Raises:
        UserError: no pictures, fewer than two classes, a class that cannot be split, or a mistake in dataset.yaml.
    """
    path = Path(os.path.abspath(os.path.expanduser(place)))
    if not path.is_dir() and not path.is_file():
        raise UserError(f"there is no folder of images and no CSV at {path}; check the path")
    said = read_description(path if path.is_dir() else path.parent)
    found = find_in_folder(path, said) if path.is_dir() else read_csv(path)
    file = said.file
    names = class_names(path, found, said.classes, file)
    part_of, split_note = split(found, said, file)
    labels = {label: number for number, label in enumerate(names)}
    rows: dict[str, list] = {part: [] for part in PARTS}
    for picture in sorted(found.pictures, key=lambda picture: (labels[picture.label], natural(picture.path))):
        part = part_of.get(picture.path)
        if part:
            rows[part].append((picture.path, labels[picture.label], names[picture.label]))
    template, named_by = said.template or TEMPLATE, "names of the folders" if path.is_dir() else "column class"
    counts = ", ".join(f"{len(rows[part])} {part}" for part in PARTS)
    skipped = found.skipped()
    notes = [
        f"Own pictures in {path}: {len(names)} classes, {sum(map(len, rows.values()))} pictures",
        f"  template: {template!r} ({file.name if said.template else 'default'})",
        f"  class names: {enumerated(list(names.values()), 3)} "
        f"({file.name if said.classes else f'default: {named_by}, _ and - as spaces, in natural order'})",
        f"  split: {counts} ({split_note})",
        *([f"  skipped: {skipped}"] if skipped else []),
    ]
    return OwnPictures(found.folder, name_of(path), template, rows, notes)


def class_names(place: Path, found: Found, given: dict[str, str], file: Path) -> dict[str, str]:
    """{folder or label: class name} in the order of the labels: as dataset.yaml has them, then in natural order."""
    labels = sorted({picture.label for picture in found.pictures}, key=natural)
    for label in given:
        refuse_unknown(label, labels, f"classes of {place} in {file}")
    order = [*given, *(label for label in labels if label not in given)]
    names = {label: " ".join((given.get(label) or re.sub("[_-]", " ", label)).split()) for label in order}
    for label, name in names.items():
        if not name:
            raise UserError(f"expected a class name for {quoted(label)} in {place}, found none; give one in {file}")
    splits = {split_of(label): label for label in labels if label not in given and split_of(label)}
    if "train" in splits and len(splits) > 1:
        raise UserError(
            f"the classes {enumerated(splits.values(), 3)} of {place} are named like splits; give the split in a "
            f"column of its own, or, if they are classes, list them under classes in {file}"
        )
    if not order:
        raise UserError(f"{place} lists no images; add some")
    if len(order) < 2:
        raise UserError(
            f"expected at least two classes in {place}, found {enumerated(order, 3)} alone; add another (base-to-new "
            "needs four, two for each half)"
        )
    check_distinct(list(names.values()), str(place), f"rename one, or give names in {file}")
    return names


def split(found: Found, said: Description, file: Path) -> tuple[dict[str, str], str]:
    """{path: part} and where it is from."""
    if found.source and (said.shares or said.listed):
        raise UserError(f"expected one split, found {found.source} and split in {file}; take one away")
    if said.listed:
        return listed_split(found, said.listed, file)
    if found.source:
        parts = {picture.path: picture.part for picture in found.pictures}
        if "test" in parts.values():
            return parts, found.source
        tested = {path: "test" if part == "val" else part for path, part in parts.items()}
        return tested, f"{found.source}; no test, so val is tested on"
    shares = said.shares or SHARES
    by_class: dict[str, list[str]] = {}
    for picture in found.pictures:
        by_class.setdefault(picture.label, []).append(picture.path)
    lonely = [label for label, paths in by_class.items() if len(paths) < 2]
    if lonely:
        raise UserError(
            f"expected at least two pictures of every class in {found.folder} (to learn and to test), found one of "
            f"{enumerated(lonely, 3)}; add more"
        )
    parts = {path: part for paths in by_class.values() for path, part in hashed_split(paths, shares).items()}
    where = file.name if said.shares else "default"
    return parts, f"{where}: {'/'.join(f'{100 * share:g}' for share in shares)} % of each class, by hashes of the paths"


def listed_split(found: Found, lists: dict[str, list[str]], file: Path) -> tuple[dict[str, str], str]:
    """Parts by the paths or patterns of dataset.yaml; what none of them names is left out."""
    part_of: dict[str, str] = {}
    for part, patterns in lists.items():
        for pattern in patterns:
            matches = [
                picture.path
                for picture in found.pictures
                if picture.path == pattern or fnmatchcase(picture.path, pattern)
            ]
            if not matches:
                raise UserError(
                    f"expected pictures for every entry of split in {file}, found none for {quoted(pattern)}; mend it"
                )
            for path in matches:
                if part_of.setdefault(path, part) != part:
                    raise UserError(
                        f"expected one part for {path} in {file}, found {part_of[path]} and {part}; mend it"
                    )
    left = len(found.pictures) - len(part_of)
    return part_of, file.name + (f"; {left} pictures in no part are left out" if left else "")


def name_of(path: Path) -> str:
    """The folder's own name, and the CSV's behind it; what would hurt in a path or a table becomes _."""
    names = [path.name] if path.is_dir() else [path.parent.name, path.stem]
    name = "-".join(re.sub(r"[^\w.-]+", "_", part).strip("_.-")[:60] for part in names).strip("-") or "folder"
    ours = Path(__file__).resolve().parents[3] / "configs" / "datasets" / f"{name}.yaml"
    return f"{name}_folder" if ours.is_file() and name != "folder" else name


def natural(text: str) -> list:
    """Sorting key: numbers by value, letters without case; then as they are."""
    words = re.split("([0-9]+)", text.casefold())
    return [[int(word) if number % 2 else word for number, word in enumerate(words)], text]
