"""Labelled images as a reader finds them, before they get class names and a split."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fdbpl.data.rows import is_text
from fdbpl.errors import UserError


class LabelledImage(NamedTuple):
    """One image.

    Attributes:
        path: relative to the folder of the listing, with / as separator.
        label: its class folder, or its class in the table.
        split: train, val or test; "" if the format does not say.
    """

    path: str
    label: str
    split: str = ""


class SkippedFile(NamedTuple):
    """A file or folder that is not used, and the reason."""

    path: str
    reason: str


@dataclass
class Listing:
    """The result of a reader.

    Attributes:
        format: name of the format.
        folder: absolute folder that the image paths start from.
        images: all labelled images.
        split_source: where the splits of the images come from; "" if they have none.
        names: {label: class name} in label order, for formats that define names and their order.
        guesses: decisions that dataset.yaml can change, for the user.
        skipped: files that are not used.
        hidden: number of hidden files and folders.
        linked: number of links to folders that were searched already.
    """

    format: str
    folder: Path
    images: list[LabelledImage] = field(default_factory=list)
    split_source: str = ""
    names: dict[str, str] = field(default_factory=dict)
    guesses: list[str] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    hidden: int = 0
    linked: int = 0

    def skip(self, file: str, reason: str) -> None:
        """Record a file that is not used, by its path below the folder if it is there."""
        path = Path(file)
        shown = path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else file
        self.skipped.append(SkippedFile(shown, reason))

    def guess(self, guess: str) -> None:
        """Record a decision that dataset.yaml can change, once."""
        if guess not in self.guesses:
            self.guesses.append(guess)

    def leave_out_unlabelled(self, folder: Path, images: list[str], reason: str) -> None:
        """Skip the images of a test folder that have no class, and tell the user how to predict them."""
        for file in images:
            self.skip(file, reason)
        self.guesses.append(
            f"the {len(images)} images in {folder.name} have no class and are left out; after training, predict them: "
            f"python -m fdbpl.predict RUN {folder}"
        )

    def forget_split_of_training_only(self) -> None:
        """Remove the split where it leaves only training images, e.g. because the test images have no labels."""
        if {image.split for image in self.images} == {"train"}:
            self.images = [image._replace(split="") for image in self.images]
            self.split_source = ""

    def skipped_summary(self) -> str:
        """Return counts of the skipped files by reason, with the first two of each; "" if there are none."""
        by_reason: dict[str, list[str]] = {}
        for path, reason in self.skipped:
            by_reason.setdefault(reason, []).append(path)
        parts = [f"{self.hidden} hidden"] if self.hidden else []
        for reason, paths in by_reason.items():
            more = " ..." if len(paths) > 2 else ""
            parts.append(f"{len(paths)} {reason} ({', '.join(paths[:2])}{more})")
        if self.linked:
            parts.append(f"{self.linked} links to folders that were searched already")
        return ", ".join(parts)


def relative_path(folder: Path, file: str | os.PathLike) -> str:
    """Return the path of an image relative to the folder, with / as separator.

    Raises:
        UserError: the image is not below the folder, or its name is not UTF-8.
    """
    relative = os.path.relpath(file, folder).replace(os.sep, "/")
    if relative == ".." or relative.startswith("../"):
        raise UserError(
            f"the image {file} is not below {folder}. Give a folder above all images, and name the table with the key "
            "labels in its dataset.yaml"
        )
    check_utf8(relative, folder)
    return relative


def check_utf8(path: str, folder: Path) -> None:
    if not is_text(path):
        raise UserError(f"the file name {path!a} below {folder} is not valid UTF-8; rename it")
