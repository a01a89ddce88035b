"""Readers of tables: CSV and TSV files, one for each split or one for all, and lists such as train.txt."""

import re
from collections.abc import Sequence
from pathlib import Path

from fdbpl.data.custom.columns import class_column, path_column, read_columns
from fdbpl.data.custom.description import Description
from fdbpl.data.custom.folders import entries, visible_folders
from fdbpl.data.custom.image_paths import find_images
from fdbpl.data.custom.listing import LabelledImage, Listing
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.custom.text_table import SEPARATORS, TABLE_ENDINGS, Table, read_csv, text_lines
from fdbpl.errors import UserError, quoted
from fdbpl.io.image_files import Skipped, images_below

LIST_ENDINGS = (".txt", ".lst", ".list")


class TableFiles:
    """CSV and TSV files: one table, or one for each split, whose names say which."""

    format = "CSV"

    def __init__(self, files: Sequence[Path], folder: Path, description: Description):
        """Read `files`, whose paths start from `folder`."""
        self.files = files
        self.folder = folder
        self.description = description

    def read(self) -> Listing:
        """Read the tables and find their images.

        Raises:
            UserError: a table cannot be read, or its columns or images cannot be found.
        """
        listing = Listing(self.format, self.folder)
        splits = self.splits_of_files()
        for file in self.files:
            table = self.read_table(file)
            if splits[file] not in ("", "train") and self.is_unlabelled(table):
                listing.skip(str(file), "without classes")
                listing.guess(f"the images of {file.name} have no class and are left out")
            else:
                self.add_images(listing, table, splits[file])
        if any(splits.values()):
            listing.split_source = f"files {', '.join(file.name for file in self.files)}"
            listing.forget_split_of_training_only()
        check_unique_paths(listing, str(self.files[0]))
        self.leave_out_test_folders(listing)
        return listing

    def splits_of_files(self) -> dict[Path, str]:
        """Return {file: split}; "" for all, if the files do not name several splits.

        Raises:
            UserError: only some of the files name a split.
        """
        splits = {file: self.split_of_file(file) for file in self.files}
        if len(set(splits.values())) < 2:
            return dict.fromkeys(splits, "")
        for file, split in splits.items():
            if not split:
                raise UserError(f"{file} is not named for a split, unlike other files there; rename or remove it")
        return splits

    def leave_out_test_folders(self, listing: Listing) -> None:
        """Name the test folders, such as Kaggle's, of which the tables list no image."""
        listed = {image.path.partition("/")[0] for image in listing.images}
        for folder in visible_folders(self.folder):
            if split_of(folder.name) != "test" or folder.name in listed:
                continue
            if images := images_below(str(folder), Skipped()):
                listing.leave_out_unlabelled(folder, images, f"not in {self.files[0].name}")

    def read_table(self, file: Path) -> Table:
        return read_csv(file, self.description.delimiter)

    def split_of_file(self, file: Path) -> str:
        return split_of(re.sub(r"(\.\w+)+$", "", file.name))

    def images_of(self, file: Path) -> Path:
        """Return the folder that the paths of a table start from."""
        return self.description.folder / self.description.images if self.description.images else file.parent

    def is_unlabelled(self, table: Table) -> bool:
        path = path_column(table, self.description)
        return class_column(table, path, None, self.description) is None and len(table.columns) < 3

    def add_images(self, listing: Listing, table: Table, split: str) -> None:
        content = read_columns(table, self.description)
        for guess in (*table.guesses, *content.guesses):
            listing.guess(guess)
        listing.names.update({name: re.sub("[_-]", " ", name) for name in content.names})
        folder = self.images_of(table.file)
        paths = find_images(folder, content.paths, listing, self.description.ending, str(table.file))
        splits, source = content.splits, content.split_source
        if not split and not splits:
            splits, source = self.splits_by_folder(paths), "first folders of the paths"
        listing.split_source = source if splits else listing.split_source
        for line, path in paths.items():
            listing.images.append(LabelledImage(path, content.labels[line], split or splits.get(line, "")))

    def splits_by_folder(self, paths: dict[int, str]) -> dict[int, str]:
        """Return {line: split} of a format whose folders name the splits."""
        return {}


class SplitLists(TableFiles):
    """Lists train.txt, val.txt and test.txt with lines `path label`."""

    format = "lists"

    def read_table(self, file: Path) -> Table:
        """Read the lines of a list, separated by commas, tabs or the last blank.

        Raises:
            UserError: a line has no label.
        """
        lines = {number: line.strip() for number, line in enumerate(text_lines(file), 1) if line.strip()}
        first = next(iter(lines.values()), "")
        separator = self.description.delimiter or next((one for one in SEPARATORS if one in first), " ")
        rows = {}
        for number, line in lines.items():
            fields = line.rsplit(None, 1) if separator == " " else line.split(separator)
            rows[number] = [field.strip() for field in fields]
            if len(fields) < 2:
                raise UserError(f"line {number} of {file} has no label ({quoted(line)}); write: path label")
        width = max(map(len, rows.values()), default=2)
        return Table(file, [f"column {number}" for number in range(1, width + 1)], rows, header=False)


def is_list(file: Path) -> bool:
    """Return whether a text file is named for a split and starts with `path label`."""
    if not file.is_file() or file.suffix.lower() not in LIST_ENDINGS or not split_of(file.stem):
        return False
    try:
        with open(file, encoding="utf-8-sig") as stream:
            first = stream.readline().strip()
    except (OSError, ValueError):
        return False
    return bool(re.fullmatch(r"\S.*\.\w{2,5}(\s*[,;|\t]\s*|\s+)\S.*", first)) and "://" not in first


def table_files(folder: Path) -> list[Path]:
    """Return the CSV and TSV files in a folder, without Kaggle's sample_submission.csv."""
    return [
        Path(entry.path)
        for entry in entries(folder)
        if entry.name.lower().endswith(TABLE_ENDINGS) and "submission" not in entry.name.lower() and entry.is_file()
    ]


def check_unique_paths(listing: Listing, source: str) -> None:
    """Drop repeated rows of an image.

    Raises:
        UserError: an image is listed with two classes or in two splits.
    """
    first: dict[str, LabelledImage] = {}
    for image in listing.images:
        other = first.setdefault(image.path, image)
        if other.label != image.label:
            raise UserError(
                f"{source} lists {quoted(image.path)} twice, as {quoted(other.label)} and {quoted(image.label)}; each "
                "image must have one class (multi-label data are not supported)"
            )
        if other.split != image.split:
            raise UserError(
                f"{source} lists {quoted(image.path)} in two splits, {other.split} and {image.split}; remove one of "
                "them"
            )
    if len(first) < len(listing.images):
        listing.guesses.append(f"{len(listing.images) - len(first)} repeated rows are ignored")
        listing.images = list(first.values())
