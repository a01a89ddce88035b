"""Custom data: recognition of the format, class names, split."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fdbpl.class_names import check_distinct
from fdbpl.data.custom.description import Description, check_known, read_description
from fdbpl.data.custom.scan import ScanResult, scan_folder
from fdbpl.data.custom.split import PARTS, hashed_split
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.custom.table import read_csv
from fdbpl.errors import UserError, enumerated, quoted

TEMPLATE = "a photo of a {}."
SHARES = (0.5, 0.2, 0.3)  # CoOp's, of train, val and test


@dataclass(frozen=True)
class CustomData:
    """Data set of custom images.

    Attributes:
        folder: absolute folder that the paths of the rows start from.
        name: for run folders and results.
        rows: (path, label, class name) of train, val and test.
        notes: lines for the user on what was found and which defaults apply.
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
        """Digest of template and rows, which identifies the data set."""
        return hashlib.sha256(json.dumps([self.template, self.rows]).encode()).hexdigest()[:12]


def read_custom_data(place: str, training: bool = True) -> CustomData:
    """Read the folder or CSV `place` and the dataset.yaml next to the images.

    Args:
        training: False for images that are only classified: classes of one image, and a single class, are accepted, and
            all images are test images unless the data have a split.

    Raises:
        UserError: no images, fewer than two classes, a class that cannot be split, or a mistake in dataset.yaml.
    """
    path = Path(os.path.abspath(os.path.expanduser(place)))
    if not path.is_dir() and not path.is_file():
        raise UserError(f"there is no folder of images and no CSV at {path}; check the path")
    said = read_description(path if path.is_dir() else path.parent)
    found = scan_folder(path, said) if path.is_dir() else read_csv(path)
    file = said.file
    names = class_names(path, found, said.classes, file, minimum=2 if training else 1)
    part_of, split_note = split(found, said, file, training)
    labels = {label: number for number, label in enumerate(names)}
    rows: dict[str, list] = {part: [] for part in PARTS}
    for image in sorted(found.images, key=lambda image: (labels[image.label], natural(image.path))):
        part = part_of.get(image.path)
        if part:
            rows[part].append((image.path, labels[image.label], names[image.label]))
    template, named_by = said.template or TEMPLATE, "names of the folders" if path.is_dir() else "column class"
    counts = ", ".join(f"{len(rows[part])} {part}" for part in PARTS)
    skipped = found.skipped()
    notes = [
        f"Images of {path}: {len(names)} classes, {sum(map(len, rows.values()))} images",
        f"  template: {template!r} ({file.name if said.template else 'default'})",
        f"  class names: {enumerated(list(names.values()), 3)} "
        f"({file.name if said.classes else f'default: {named_by}, _ and - as spaces, in natural order'})",
        f"  split: {counts} ({split_note})",
        *([f"  skipped: {skipped}"] if skipped else []),
    ]
    return CustomData(found.folder, name_of(path), template, rows, notes)


def class_names(place: Path, found: ScanResult, given: dict[str, str], file: Path, minimum: int = 2) -> dict[str, str]:
    """Return {folder or label: class name} in label order: as in dataset.yaml, then in natural order."""
    labels = sorted({image.label for image in found.images}, key=natural)
    for label in given:
        check_known(label, labels, f"classes of {place}", file)
    order = [*given, *(label for label in labels if label not in given)]
    names = {label: " ".join((given.get(label) or re.sub("[_-]", " ", label)).split()) for label in order}
    for label, name in names.items():
        if not name:
            raise UserError(f"{quoted(label)} in {place} gives no class name; give one in {file}")
    splits = {split_of(label): label for label in labels if label not in given and split_of(label)}
    if "train" in splits and len(splits) > 1:
        raise UserError(
            f"the classes {enumerated(splits.values(), 3)} of {place} are named like splits; give the split in a "
            f"column of its own, or, if they are classes, list them under classes in {file}"
        )
    if not order:
        raise UserError(f"{place} lists no images; add some")
    if len(order) < minimum:
        raise UserError(
            f"{place} has only the class {enumerated(order, 3)}, but at least two are needed; add another (base-to-new "
            "needs four, two for each half)"
        )
    check_distinct(list(names.values()), str(place), f"rename one, or give names in {file}")
    return names


def split(found: ScanResult, said: Description, file: Path, training: bool = True) -> tuple[dict[str, str], str]:
    """Return {path: part}, and a note on where the split is from."""
    if found.source and (said.shares or said.listed):
        raise UserError(f"the split is given twice, by {found.source} and by split in {file}; remove one of them")
    if said.listed:
        return listed_split(found, said.listed, file)
    if found.source:
        parts = {image.path: image.split for image in found.images}
        if "test" in parts.values():
            return parts, found.source
        tested = {path: "test" if part == "val" else part for path, part in parts.items()}
        return tested, f"{found.source}; no test, so val is tested on"
    if not training and not said.shares:
        return {image.path: "test" for image in found.images}, "all images are test images"
    shares = said.shares or SHARES
    by_class: dict[str, list[str]] = {}
    for image in found.images:
        by_class.setdefault(image.label, []).append(image.path)
    lonely = [label for label, paths in by_class.items() if len(paths) < 2]
    if lonely and training:
        raise UserError(
            f"{found.folder} has only one image of {enumerated(lonely, 3)}, but two are needed, to train and to test; "
            "add more"
        )
    parts = {path: part for paths in by_class.values() for path, part in hashed_split(paths, shares).items()}
    where = file.name if said.shares else "default"
    return parts, f"{where}: {'/'.join(f'{100 * share:g}' for share in shares)} % of each class, by hashes of the paths"


def listed_split(found: ScanResult, lists: dict[str, list[str]], file: Path) -> tuple[dict[str, str], str]:
    """Split by the paths or patterns of dataset.yaml; images that match none of them are left out."""
    part_of: dict[str, str] = {}
    for part, patterns in lists.items():
        for pattern in patterns:
            matches = [
                image.path for image in found.images if image.path == pattern or fnmatchcase(image.path, pattern)
            ]
            if not matches:
                raise UserError(f"no image matches {quoted(pattern)} of split in {file}; correct or remove it")
            for path in matches:
                if part_of.setdefault(path, part) != part:
                    raise UserError(f"{file} assigns {path} to both {part_of[path]} and {part}; remove one of them")
    left = len(found.images) - len(part_of)
    return part_of, file.name + (f"; {left} images in no part are left out" if left else "")


def name_of(path: Path) -> str:
    """Name of the folder, followed by that of the CSV; characters unsuited to paths and tables become _."""
    names = [path.name] if path.is_dir() else [path.parent.name, path.stem]
    name = "-".join(re.sub(r"[^\w.-]+", "_", part).strip("_.-")[:60] for part in names).strip("-") or "folder"
    ours = Path(__file__).resolve().parents[3] / "configs" / "datasets" / f"{name}.yaml"
    return f"{name}_folder" if ours.is_file() and name != "folder" else name


def natural(text: str) -> list:
    """Sorting key for natural order: numbers by value, letters without case."""
    words = re.split("([0-9]+)", text.casefold())
    return [[int(word) if number % 2 else word for number, word in enumerate(words)], text]
