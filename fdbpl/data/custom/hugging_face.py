"""Readers of Hugging Face's layouts: images with metadata files, and Parquet files."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from fdbpl.data.custom.columns import TableContent, read_columns
from fdbpl.data.custom.description import Description
from fdbpl.data.custom.folders import visible_folders
from fdbpl.data.custom.image_paths import find_images
from fdbpl.data.custom.listing import LabelledImage, Listing, relative_path
from fdbpl.data.custom.parquet import cache_folder, class_lists, extract_images, open_parquet, read_text_columns
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.custom.tables import TableFiles
from fdbpl.data.custom.text_table import Table, read_json_lines
from fdbpl.errors import UserError, enumerated

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
MAX_DEPTH = 3  # folders below which metadata and Parquet files are searched


class MetadataFiles(TableFiles):
    """Images with metadata.csv, metadata.jsonl or metadata.parquet: one file at the root, or one per split folder."""

    format = "Hugging Face metadata"

    def read_table(self, file: Path) -> Table:
        if file.suffix == ".parquet":
            return read_text_columns(file)
        if file.suffix in (".jsonl", ".ndjson"):
            return read_json_lines(file)
        return super().read_table(file)

    def split_of_file(self, file: Path) -> str:
        folders = file.parent.relative_to(self.folder).parts
        splits = [split_of(name) for name in folders if split_of(name)]
        return splits[-1] if splits else ""

    def is_unlabelled(self, table: Table) -> bool:
        return False

    def splits_by_folder(self, paths: dict[int, str]) -> dict[int, str]:
        """The splits of images whose first folders all name one, with more than one split in use."""
        splits = {line: split_of(path.partition("/")[0]) if "/" in path else "" for line, path in paths.items()}
        return splits if all(splits.values()) and len(set(splits.values())) > 1 else {}

    def add_images(self, listing: Listing, table: Table, content: TableContent, split: str) -> None:
        super().add_images(listing, table, content, split)
        if not split and not content.splits and any(image.split for image in listing.images):
            listing.split_source = "first folders of the paths"


class ParquetFiles:
    """Parquet files with an image column (bytes or paths) and a label column."""

    format = "Parquet"

    def __init__(self, files: Sequence[Path], place: Path, description: Description):
        self.files = files
        self.place = place
        self.description = description
        self.folder = place.parent if place.is_file() else place

    def read(self) -> Listing:
        """Read the labels; images stored in the files are written to a cache first.

        Raises:
            UserError: a file cannot be read, a column is missing, or an image has no label.
        """
        names = {file: self._name(file) for file in self.files}
        paths = extract_images(self.place, self.files, names)
        stored = any(not path.startswith("/") for rows in paths.values() for path in rows)
        folder = cache_folder(self.place) if stored else self.folder
        listing = Listing(self.format, folder)
        if stored:
            listing.guesses.append(f"the images were extracted to {folder}")
        splits = {
            file: split_of(re.split(r"-\d+-of-\d+", file.stem)[0]) or self._folder_split(file) for file in self.files
        }
        named = len(set(splits.values())) > 1
        if named and "" in splits.values():
            unnamed = next(file for file in self.files if not splits[file])
            raise UserError(
                f"{unnamed} is not named for a split, unlike other Parquet files there; rename or remove it"
            )
        for file in self.files:
            self._add(listing, file, paths[file], splits[file] if named else "")
        if named:
            listing.forget_split_of_training_only()
        return listing

    def _add(self, listing: Listing, file: Path, paths: list[str], split: str) -> None:
        table = read_text_columns(file)
        table = Table(
            file,
            ["image path", *table.columns],
            {number: [paths[number], *row] for number, row in table.rows.items()},
            classes=table.classes,
            unit="row",
        )
        if split and split != "train" and self._is_unlabelled(table):
            listing.skip(str(file), "without labels")
            listing.guesses.append(f"the images of {file.name} have no labels and are left out")
            return
        described = Description(
            self.description.file,
            columns={**self.description.columns, "path": "image path"},
            split_values=self.description.split_values,
        )
        content = read_columns(table, described)
        note = content.guesses[0].replace("'image path' is the image path, ", "")
        if note not in listing.guesses:
            listing.guesses.append(note)
        listing.names.update({name: re.sub("[_-]", " ", name) for name in content.names})
        if all(path.startswith("/") for path in paths):
            written = {number: path[1:] for number, path in content.paths.items()}
            found = find_images(self.folder, written, listing, self.description.ending, str(file))
        else:
            found = content.paths
        for number, path in found.items():
            listing.images.append(LabelledImage(path, content.labels[number], split or content.splits.get(number, "")))
        if split or content.splits:
            listing.split_source = content.split_source or "names of the Parquet files"

    def _is_unlabelled(self, table: Table) -> bool:
        """Tell whether all labels are -1 or empty, as in test files of competitions."""
        for name in table.classes:
            values = set(table.column(table.columns.index(name)).values())
            return values <= {"-1", ""}
        return False

    def _name(self, file: Path) -> str:
        return os.path.splitext(relative_path(self.folder, file))[0].replace("/", "_")

    def _folder_split(self, file: Path) -> str:
        for name in reversed(file.parent.relative_to(self.folder).parts):
            if split_of(name):
                return split_of(name)
        return ""


def metadata_files(folder: Path) -> list[Path]:
    """The metadata files in a folder, or in its split folders."""
    at_root = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(at_root) > 1:
        raise UserError(f"{folder} has {enumerated([file.name for file in at_root])}; keep one of them")
    if at_root:
        return at_root
    inner = [path for path in _folders(folder, 2) if split_of(path.name)]
    return [path / name for path in inner for name in METADATA if (path / name).is_file()]


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files with image columns in a folder and the folders below it.

    Raises:
        UserError: they belong to several data sets (different columns).
    """
    folders = [folder, *_folders(folder, MAX_DEPTH)]
    files = sorted(file for path in folders for file in path.glob("*.parquet") if file.name not in METADATA)
    kinds: dict[tuple, list[Path]] = {}
    for file in files:
        parquet = open_parquet(file)
        kinds.setdefault((tuple(parquet.schema_arrow.names), str(class_lists(parquet))), []).append(file)
    if len(kinds) > 1:
        first = [str(same[0].relative_to(folder)) for same in kinds.values()]
        raise UserError(
            f"the Parquet files below {folder} have different columns or classes ({enumerated(first, 3)}); give the "
            "folder of one data set"
        )
    return files


def _folders(folder: Path, depth: int) -> list[Path]:
    """Visible folders up to `depth` levels below a folder."""
    found: list[Path] = []
    for path in visible_folders(folder):
        found.append(path)
        if depth > 1:
            found += _folders(path, depth - 1)
    return found
