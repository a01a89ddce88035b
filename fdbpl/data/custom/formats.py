"""Recognition of the format of custom data."""

from pathlib import Path
from typing import Protocol

from fdbpl.data.custom import hub
from fdbpl.data.custom.class_folders import ClassFolders, has_class_folders
from fdbpl.data.custom.coop_split import CoopSplit
from fdbpl.data.custom.description import Description, read_description
from fdbpl.data.custom.folders import entries
from fdbpl.data.custom.hugging_face import MetadataFiles, ParquetFiles, metadata_files, parquet_files
from fdbpl.data.custom.layout import Layout
from fdbpl.data.custom.listing import Listing
from fdbpl.data.custom.parquet import image_columns, is_extracted, open_parquet
from fdbpl.data.custom.split_names import split_of
from fdbpl.data.custom.tables import SplitLists, TableFiles, is_list, table_files
from fdbpl.errors import UserError, enumerated


class Reader(Protocol):
    """A format: reads the labelled images below `folder`."""

    format: str
    folder: Path

    def read(self) -> Listing: ...


def find_reader(path: Path) -> tuple[Reader, Description]:
    """Recognise the format of a folder or file, and read its dataset.yaml.

    A folder is, in this order: what `layout` or `labels` of dataset.yaml say; images with Hugging Face's metadata;
    lists train.txt and test.txt; a CoOp split file; class folders; Parquet files; CSV files.

    Raises:
        UserError: nothing is there, or no format fits.
    """
    if path.is_dir():
        description = read_description(path)
        return _reader_of_folder(path, description), description
    if path.is_file():
        description = read_description(path.parent)
        return _reader_of_file(path, path.parent, description), description
    hint = (
        f"; for a data set of the Hugging Face hub write hf://{'/'.join(path.parts[-2:])}" if path.suffix == "" else ""
    )
    raise UserError(f"there is no folder of images and no CSV at {path}; check the path{hint}")


def image_root(place: str) -> Path:
    """Return the folder that the image paths of a place start from; nothing is downloaded or extracted."""
    path = hub.local_path(place)
    if not path.exists():
        return path
    reader, _ = find_reader(path)
    if isinstance(reader, ParquetFiles) and is_extracted(path):
        return reader.read().folder
    return reader.folder


def _reader_of_file(file: Path, folder: Path, description: Description) -> Reader:
    name = file.name.lower()
    if name.endswith(".parquet"):
        if image_columns(open_parquet(file)):
            return ParquetFiles([file], file, description)
        return MetadataFiles([file], folder, description)
    if name.endswith((".jsonl", ".ndjson")) or name == "metadata.csv":
        return MetadataFiles([file], folder, description)
    if name.endswith(".json"):
        return CoopSplit(file, folder, description)
    if name.endswith((".txt", ".lst", ".list")):
        return SplitLists([file], folder, description)
    return TableFiles([file], folder, description)


def _reader_of_folder(folder: Path, description: Description) -> Reader:
    if description.labels:
        return _reader_of_file(folder / description.labels, folder, description)
    if description.layout:
        return Layout(folder, description)
    if files := metadata_files(folder):
        return MetadataFiles(files, folder, description)
    lists = [path for entry in entries(folder) if is_list(path := Path(entry.path))]
    if "train" in (split_of(file.stem) for file in lists):
        return SplitLists(lists, folder, description)
    splits = sorted(folder.glob("split*.json"))
    if len(splits) == 1:
        return CoopSplit(splits[0], folder, description)
    if len(splits) > 1:
        names = enumerated([file.name for file in splits])
        raise UserError(f"{folder} has several split files ({names}); give the one to use, or name it: labels: FILE")
    tables = table_files(folder)
    if has_class_folders(folder, description):
        reader = ClassFolders(folder, description)
        if tables:
            reader.listing.guesses.append(
                f"{enumerated([file.name for file in tables], 3)} in the folder is not read, because there are class "
                f"folders; labels: {tables[0].name} in {description.file.name} reads it"
            )
        return reader
    if files := parquet_files(folder):
        return ParquetFiles(files, folder, description)
    if len(tables) > 1:
        named = [file for file in tables if split_of(file.name.split(".")[0])]
        if "train" not in (split_of(file.name.split(".")[0]) for file in named):
            names = enumerated([file.name for file in tables], 5)
            raise UserError(
                f"{folder} has several tables ({names}); give the one to use, or name it in dataset.yaml: labels: FILE"
            )
        tables = named
    if tables:
        return TableFiles(tables, folder, description)
    return ClassFolders(folder, description)
