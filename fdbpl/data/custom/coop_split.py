"""Reader of CoOp's split files: JSON with lists train, val and test of [path, label, class name]."""

from pathlib import Path
from typing import Any

from fdbpl.data.custom.description import Description
from fdbpl.data.custom.image_paths import find_images
from fdbpl.data.custom.listing import LabelledImage, Listing
from fdbpl.data.custom.split_names import PARTS, split_of
from fdbpl.data.custom.tables import check_unique_paths
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import read_json

PATH_KEYS = ("path", "impath", "image", "file_name", "filename", "file")
LABEL_KEYS = ("label", "class", "class_id", "target")
NAME_KEYS = ("name", "classname", "class_name", "label_name")


class CoopSplit:
    """A split file of CoOp's; labels may start from 1 or have gaps, and class names may be missing."""

    format = "CoOp split file"

    def __init__(self, file: Path, folder: Path, description: Description):
        self.file = file
        self.folder = folder
        self.description = description

    def read(self) -> Listing:
        """Read the file and find its images.

        Raises:
            UserError: the file is not such JSON, a row is incomplete, a label has two names, or images are missing.
        """
        content = read_json(self.file, "a split file")
        listing = Listing(self.format, self.folder)
        rows = [row for part, values in self._parts(content).items() for row in self._rows(values, part)]
        names: dict[int, str] = {}
        for _, label, name, part in rows:
            if names.setdefault(label, name) != name:
                raise UserError(
                    f"label {label} has the class names {quoted(names[label])} and {quoted(name)} in {self.file} "
                    f"({part}); correct one"
                )
        if sorted(names) != list(range(len(names))):
            listing.guesses.append(
                f"labels {min(names)} to {max(names)} are numbered 0 to {len(names) - 1} in their order"
            )
        images = self.description.folder / self.description.images if self.description.images else self.file.parent
        paths = find_images(
            images,
            {number: row[0] for number, row in enumerate(rows)},
            listing,
            self.description.ending,
            str(self.file),
        )
        listing.names = {name or str(label): name for label, name in sorted(names.items())}
        if len(listing.names) < len(names):
            repeated = [name for name in names.values() if list(names.values()).count(name) > 1]
            raise UserError(f"two labels in {self.file} have the class name {quoted(repeated[0])}; rename one")
        listing.images = [
            LabelledImage(paths[number], name or str(label), part) for number, (_, label, name, part) in enumerate(rows)
        ]
        listing.split_source = self.file.name
        check_unique_paths(listing, str(self.file))
        return listing

    def _parts(self, content: Any) -> dict[str, list]:
        parts = {}
        for key, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, list) and (part := split_of(key)):
                if part in parts:
                    raise UserError(f"{self.file} has several lists for {part}; keep one of them")
                parts[part] = value
        if "train" not in parts or len(parts) < 2:
            raise UserError(
                f"{self.file} is not a split file of CoOp's: it must hold lists train, val and test of [path, "
                "label, class name]"
            )
        return {part: parts[part] for part in PARTS if part in parts}

    def _rows(self, values: list, part: str) -> list[tuple[str, int, str, str]]:
        return [self._row(row, f"row {number} of {part} in {self.file}", part) for number, row in enumerate(values)]

    def _row(self, row: Any, where: str, part: str) -> tuple[str, int, str, str]:
        if isinstance(row, dict):
            row = [next((row[key] for key in keys if key in row), "") for keys in (PATH_KEYS, LABEL_KEYS, NAME_KEYS)]
        if not isinstance(row, list) or len(row) not in (2, 3) or not isinstance(row[0], str) or not row[0]:
            raise UserError(f"{where} is {quoted(row)}, not [path, label, class name]; correct it")
        path, label, name = (*row, "")[:3]
        try:
            number = int(label) if not isinstance(label, bool) else -1
        except (TypeError, ValueError, OverflowError):
            number = -1
        if number < 0 or number != float(label) or not isinstance(name, str):
            raise UserError(f"{where} is {quoted(row)}: its label must be a number 0, 1, 2 ...; correct it")
        return path, number, " ".join(name.split()), part
