"""Search a folder with one sub-folder per class for images, and count other files."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fdbpl.data.custom.description import FILE_NAMES, Description
from fdbpl.data.custom.split_names import contains_splits, split_of
from fdbpl.errors import UserError, enumerated
from fdbpl.io.image_files import Skipped, images_below, is_hidden, raise_unlistable


@dataclass(frozen=True)
class LabelledImage:
    """One image.

    Attributes:
        path: below the folder.
        label: its class folder, or its class in the CSV.
        split: train, val or test; "" if not given.
    """

    path: str
    label: str
    split: str


@dataclass
class ScanResult:
    """Images of a folder or CSV, and counts of the files that are not used."""

    folder: Path
    images: list[LabelledImage] = field(default_factory=list)
    source: str = ""  # of the split, for the notes
    outside: int = 0  # files in none of the class folders
    unused: list[str] = field(default_factory=list)  # folders that are neither splits nor classes
    others: Skipped = field(default_factory=Skipped)

    def skipped(self) -> str:
        counts = (
            (self.others, str(self.others)),
            (self.outside, f"{self.outside} outside of the class folders"),
            (self.unused, f"folders that are no split ({enumerated(self.unused, 3)})"),
        )
        return ", ".join(text for count, text in counts if count)


def scan_folder(folder: Path, description: Description) -> ScanResult:
    """Find the images of FOLDER/CLASS/..., or FOLDER/SPLIT/CLASS/... if sub-folders are named train and val or test.

    Raises:
        UserError: there are no class folders, one is empty, or it is unclear whether a folder is a class or a split.
    """
    found = ScanResult(folder)
    inner = _subfolders(folder, found)
    splits = _split_folders(folder, inner, description)
    if splits:
        found.source = f"folders {', '.join(sorted(path.name for path in splits))}"
        found.unused = [path.name for path in inner if path not in splits]
        classes = {path: split for outer, split in splits.items() for path in _subfolders(outer, found)}
    else:
        classes = dict.fromkeys(inner, "")
        _check_class_names(folder, inner, description)
    if not classes:
        raise UserError(
            f"{folder} has no sub-folders, one of which is needed for each class; sort the images into folders named "
            "after their classes, or give a CSV of path,class"
        )
    _check_nesting(folder, list(classes), description)
    for path, split in classes.items():
        for file in images_below(str(path), found.others):
            found.images.append(LabelledImage(relative_path(folder, Path(file)), path.name, split))
    empty = sorted({path.name for path in classes} - {image.label for image in found.images})
    if empty:
        raise UserError(
            f"the class folders {enumerated(empty, 3)} of {folder} hold no images"
            f"{' (skipped: ' + found.skipped() + ')' if found.skipped() else ''}; add some or remove the folders"
        )
    return found


def _split_folders(folder: Path, inner: list[Path], description: Description) -> dict[Path, str]:
    """Return {sub-folder: split}; empty unless there are folders for training and for validation or testing."""
    splits = {path: split_of(path.name) for path in inner if path.name not in description.classes}
    splits = {path: split for path, split in splits.items() if split}
    if "train" not in splits.values() or set(splits.values()) == {"train"}:
        return {}
    for split, count in Counter(splits.values()).items():
        if count > 1:
            names = enumerated([path.name for path, other in splits.items() if other == split], 3)
            raise UserError(f"{folder} has several folders for the {split} split ({names}); keep one of them")
    for path in splits:
        if not _subfolders(path, ScanResult(path)):
            raise UserError(f"{path} has no class folders, so its images have no class; move it out of {folder}")
    return splits


def _check_class_names(folder: Path, classes: list[Path], description: Description) -> None:
    unlisted = [path.name for path in classes if path.name not in description.classes]
    suspects = [name for name in unlisted if split_of(name)] or (unlisted if contains_splits(unlisted) else [])
    if suspects:
        raise UserError(
            f"the sub-folders {enumerated(suspects, 3)} of {folder} are named like splits, not like classes; arrange "
            "the images as train/CLASS and test/CLASS, or give one of them as the folder of images, or, if they are "
            f"classes, list them under classes in {description.file}"
        )


def _check_nesting(folder: Path, classes: list[Path], description: Description) -> None:
    """Refuse sub-folders that all classes share, which may be the classes, and those named like splits."""
    if description.listed:
        return
    inner = {path: {folder.name for folder in _subfolders(path, ScanResult(path))} for path in classes}
    for path, below in inner.items():
        splits = sorted(name for name in below if split_of(name))
        if splits and not description.shares:
            raise UserError(
                f"the class folder {path} has sub-folders named like splits ({enumerated(splits, 3)}); arrange the "
                f"images as train/CLASS and test/CLASS, or list the images of each split in {description.file}"
            )
    common = set.intersection(*inner.values())
    names = enumerated([path.name for path in classes], 3)
    unlisted = {path.name for path in classes} - description.classes.keys()
    if len(classes) > 1 and len(common) > 1 and all(below == common for below in inner.values()) and unlisted:
        raise UserError(
            f"all sub-folders of {folder} ({names}) have the same sub-folders ({enumerated(sorted(common), 3)}), which "
            "may be the classes; give one of them as the folder of images, or, if they are the classes, list them "
            f"under classes in {description.file}"
        )


def _subfolders(folder: Path, found: ScanResult) -> list[Path]:
    """List visible sub-folders; hidden entries and other files are counted in `found`."""
    inside = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise_unlistable(error)
    for entry in entries:
        if is_hidden(entry.name):
            found.others.hidden += 1
        elif os.path.isdir(entry.path):
            inside.append(Path(entry.path))
        elif entry.name not in FILE_NAMES:
            found.outside += 1
    return inside


def relative_path(folder: Path, file: Path) -> str:
    """Path relative to the folder, with / as separator."""
    relative = os.path.relpath(file, folder).replace(os.sep, "/")
    if relative.startswith("../"):
        raise UserError(f"the image {file} is not below {folder}; move the CSV to a folder above all of its images")
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise UserError(f"the file name {relative!a} below {folder} is not valid UTF-8; rename it") from None
    return relative
