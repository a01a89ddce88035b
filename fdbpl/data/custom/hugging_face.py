"""Readers of Hugging Face's layouts: images with metadata files, and Parquet files."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fdbpl.data.custom.description import Description
from fdbpl.data.custom.folders import visible_folders
from fdbpl.data.custom.listing import Listing, relative_path
from fdbpl.data.custom.parquet import cache_folder, class_lists, extract_images, open_parquet, read_text_columns
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.custom.tables import TableFiles
from fdbpl.data.custom.text_table import Table, read_json_lines
from fdbpl.errors import UserError, enumerated

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
IMAGE_PATH = "image path"  # column that is added to those of a Parquet file
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
        folders = reversed(file.parent.relative_to(self.folder).parts)
        return next((split for name in folders if (split := split_of(name))), "")

    def splits_by_folder(self, paths: dict[int, str]) -> dict[int, str]:
        """Return the splits of images whose first folders all name one, if more than one split is in use."""
        splits = {line: split_of(path.partition("/")[0]) if "/" in path else "" for line, path in paths.items()}
        return splits if all(splits.values()) and len(set(splits.values())) > 1 else {}


class ParquetFiles(TableFiles):
    """Parquet files with an image column (bytes or paths) and a label column.

    Images stored in the files are written to a cache first.
    """

    format = "Parquet"

    def __init__(self, files: Sequence[Path], place: Path, description: Description):
        super().__init__(files, place.parent if place.is_file() else place, description)
        self.place = place
        self.root = self.folder  # of the files; `folder` is that of the images
        self.images: dict[Path, list[str]] = {}

    def read(self) -> Listing:
        self.images = extract_images(self.place, self.files, {file: self._name(file) for file in self.files})
        self.description = replace(self.description, columns={**self.description.columns, "path": IMAGE_PATH})
        stored = any(not path.startswith("/") for paths in self.images.values() for path in paths)
        if stored:
            self.folder = cache_folder(self.place)
            self.description = replace(self.description, images="", ending="")
        listing = super().read()
        if stored:
            listing.guess(f"the images were extracted to {self.folder}")
        return listing

    def read_table(self, file: Path) -> Table:
        table = read_text_columns(file)
        rows = {number: [self.images[file][number].removeprefix("/"), *row] for number, row in table.rows.items()}
        return replace(table, columns=[IMAGE_PATH, *table.columns], rows=rows)

    def images_of(self, file: Path) -> Path:
        return self.folder / self.description.images

    def is_unlabelled(self, table: Table) -> bool:
        """Return whether all labels are -1 or empty, as in test files of competitions."""
        columns = [table.column(table.columns.index(name)) for name in table.classes]
        return any(set(column.values()) <= {"-1", ""} for column in columns)

    def leave_out_test_folders(self, listing: Listing) -> None:
        """Do nothing: `folder` has one folder for each file."""

    def split_of_file(self, file: Path) -> str:
        names = (*file.parent.relative_to(self.root).parts, re.split(r"-\d+-of-\d+", file.stem)[0])
        return next((split for name in reversed(names) if (split := split_of(name))), "")

    def _name(self, file: Path) -> str:
        return os.path.splitext(relative_path(self.root, file))[0].replace("/", "_")


def metadata_files(folder: Path) -> list[Path]:
    """Return the metadata files in a folder, or in its split folders."""
    at_root = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(at_root) > 1:
        raise UserError(f"{folder} has {enumerated([file.name for file in at_root])}; keep one of them")
    if at_root:
        return at_root
    inner = [path for path in _folders(folder, 2) if split_of(path.name)]
    return [path / name for path in inner for name in METADATA if (path / name).is_file()]


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files with image columns in a folder and the folders below it.

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
    """Return the visible folders up to `depth` levels below a folder."""
    found: list[Path] = []
    for path in visible_folders(folder):
        found.append(path)
        if depth > 1:
            found += _folders(path, depth - 1)
    return found
