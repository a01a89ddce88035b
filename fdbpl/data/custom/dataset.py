"""Custom data: class names, split and a summary of what was found and assumed."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from fdbpl.data.custom import hub
from fdbpl.data.custom.class_labels import check_classes, class_names, natural
from fdbpl.data.custom.description import Description
from fdbpl.data.custom.formats import find_reader
from fdbpl.data.custom.listing import Listing, SkippedFile
from fdbpl.data.custom.split import assign_split
from fdbpl.data.custom.split_names import PARTS
from fdbpl.data.rows import Item
from fdbpl.errors import enumerated

TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class CustomData:
    """Custom data as a data set.

    Attributes:
        place: absolute path of the folder or file that was read.
        format: name of the recognised format.
        folder: absolute folder that the paths of the rows start from.
        name: for run folders and results.
        rows: (path, label, class name) of train, val and test.
        notices: lines for the user on what was found and which defaults apply.
        guesses: those of the notices that say what was guessed.
        skipped: files that are not used, with reasons.
        hidden: number of hidden files and folders, which are not listed.
        split_note: source of the split.
    """

    place: Path
    format: str
    folder: Path
    name: str
    template: str
    rows: dict[str, list[Item]]
    notices: list[str]
    guesses: list[str]
    skipped: list[SkippedFile]
    hidden: int = 0
    split_note: str = ""

    @property
    def classnames(self) -> list[str]:
        return [name for _, name in sorted({row[1:] for rows in self.rows.values() for row in rows})]

    @property
    def digest(self) -> str:
        """Digest of template and rows, which identifies the data set."""
        return hashlib.sha256(json.dumps([self.template, self.rows]).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class LabelledData:
    """Labelled images without a split, e.g. for the evaluation of a run on all of them.

    Attributes:
        listing: the images, with their labels and the splits that the format gives.
        names: {label: class name} in label order.
        names_source: where the names are from.
    """

    place: Path
    listing: Listing
    description: Description
    names: dict[str, str]
    names_source: str

    @property
    def folder(self) -> Path:
        return self.listing.folder

    @property
    def items(self) -> list[tuple[str, str]]:
        """(path below `folder`, class name) of all images."""
        return [(image.path, self.names[image.label]) for image in self.listing.images]


def read_labelled_images(place: str) -> LabelledData:
    """Recognise the format of a folder, file or hf://OWNER/NAME, and read the images with their class names.

    Raises:
        UserError: the data cannot be read, or a setting of dataset.yaml is wrong.
    """
    path = hub.download(place)
    reader, description = find_reader(path)
    listing = reader.read()
    names, source = class_names(path, listing, description)
    return LabelledData(path, listing, description, names, source)


def read_custom_data(place: str, training: bool = True) -> CustomData:
    """Read custom data with its split.

    Args:
        place: folder, CSV, JSON, list, Parquet file, or hf://OWNER/NAME.
        training: False for images that are only classified: classes of one image, and a single class, are accepted, and
            all images are test images unless the data have a split.

    Raises:
        UserError: as `read_labelled_images`; fewer than two classes, or a class that cannot be split.
    """
    data = read_labelled_images(place)
    listing, description, names = data.listing, data.description, data.names
    check_classes(data.place, names, description, minimum=2 if training else 1)
    part_of, split_note = assign_split(listing, description, training)
    used = {image.label for image in listing.images if part_of.get(image.path)}
    unused = [name for label, name in names.items() if label not in used]
    if unused:
        listing.guesses.append(f"classes without images in the split are left out: {enumerated(unused, 5)}")
    names = {label: name for label, name in names.items() if label in used}
    labels = {label: number for number, label in enumerate(names)}
    rows: dict[str, list[Item]] = {part: [] for part in PARTS}
    for image in sorted(listing.images, key=lambda image: (labels[image.label], natural(image.path))):
        part = part_of.get(image.path)
        if part:
            rows[part].append((image.path, labels[image.label], names[image.label]))
    template = description.template or TEMPLATE
    counts = ", ".join(f"{len(rows[part])} {part}" for part in PARTS)
    skipped = listing.skipped_summary()
    notices = [
        f"Images of {data.place}: {len(names)} classes, {sum(map(len, rows.values()))} images",
        f"  format: {listing.format}",
        f"  template: {template!r} ({description.file.name if description.template else 'default'})",
        f"  class names: {enumerated(names.values(), 3)} ({data.names_source})",
        f"  split: {counts} ({split_note})",
        *(f"  guessed: {guess}" for guess in listing.guesses),
        *([f"  skipped: {skipped}"] if skipped else []),
    ]
    return CustomData(
        data.place, listing.format, listing.folder, name_of(data.place), template, rows, notices, listing.guesses,
        listing.skipped, listing.hidden, split_note,
    )  # fmt: skip


def name_of(path: Path) -> str:
    """Return the name of the folder, followed by that of the file; characters unsuited to paths and tables become _."""
    names = [path.name] if path.is_dir() else [path.parent.name, Path(path.name.removesuffix(".gz")).stem]
    name = "-".join(re.sub(r"[^\w.-]+", "_", part).strip("_.-")[:60] for part in names).strip("-") or "folder"
    ours = Path(__file__).resolve().parents[3] / "configs" / "datasets" / f"{name}.yaml"
    return f"{name}_folder" if ours.is_file() and name != "folder" else name
