"""Parquet files: tables of text, and images that are written once to a cache."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from fdbpl.data.custom.text_table import Table, table_of_objects
from fdbpl.errors import REMEDIES, SystemFailure, UserError, enumerated, shortened
from fdbpl.io.atomic import read_json, write_json
from fdbpl.io.image_files import is_image
from fdbpl.io.locks import file_lock

BATCH = 64  # rows read at once
INDEX = "index.json"


def open_parquet(file: Path) -> Any:
    """Open a Parquet file with pyarrow.

    Raises:
        UserError: pyarrow is missing, or the file cannot be read.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError(f"reading {file} needs pyarrow ({error}). Run: pip install pyarrow") from error
    try:
        return ParquetFile(file)
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file} is not a readable Parquet file ({shortened(str(error))}); replace it") from error


def features(parquet: Any) -> dict[str, dict]:
    """Return {column: Hugging Face's description of it} from the metadata of the schema."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        return dict(json.loads((parquet.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"])
    return {}


def class_lists(parquet: Any) -> dict[str, list[str]]:
    """Return {column in lower case: class names in label order} of the columns with class labels."""
    return {
        column.lower(): [str(name) for name in feature["names"]]
        for column, feature in features(parquet).items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list)
    }


def image_columns(parquet: Any) -> list[str]:
    """Return the columns that hold images: by their description, else bytes or {bytes, path}."""
    named = [column for column, feature in features(parquet).items() if _is_image_feature(feature)]
    return named or [field.name for field in parquet.schema_arrow if "binary" in str(field.type)]


def _is_image_feature(feature: Any) -> bool:
    return isinstance(feature, dict) and feature.get("_type") == "Image"


def read_text_columns(file: Path) -> Table:
    """Read the columns without images as a table.

    Raises:
        UserError: as `open_parquet`.
    """
    parquet = open_parquet(file)
    images = set(image_columns(parquet))
    columns = [field.name for field in parquet.schema_arrow if field.name not in images]
    objects = enumerate(row for batch in _batches(parquet, columns, file) for row in batch.to_pylist())
    return replace(table_of_objects(file, columns, dict(objects), unit="row"), classes=class_lists(parquet))


def _batches(parquet: Any, columns: list[str], file: Path) -> Iterator[Any]:
    from pyarrow import ArrowException

    try:
        yield from parquet.iter_batches(batch_size=BATCH, columns=columns)
    except (ArrowException, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged ({shortened(str(error))}); replace it") from error


def cache_folder(place: Path) -> Path:
    """Return the folder for the images of the Parquet files at `place`: FDBPL_CACHE/custom/NAME-HASH, by the path."""
    cache = Path(os.environ.get("FDBPL_CACHE") or "~/.cache/fdbpl").expanduser().absolute()
    digest = hashlib.sha256(os.fsencode(place)).hexdigest()[:8]
    return cache / "custom" / f"{place.stem[:40]}-{digest}"


def is_extracted(place: Path) -> bool:
    """Return whether the images of the Parquet files at `place` were extracted before."""
    return (cache_folder(place) / INDEX).is_file()


def extract_images(place: Path, files: Sequence[Path], names: dict[Path, str]) -> dict[Path, list[str]]:
    """Write the images of Parquet files to the cache and return {file: paths of its rows below the cache folder}.

    An image is named after its row and its content, so that an interrupted extraction continues, and a changed file
    replaces nothing. Images that the files only refer to keep their paths, which start with "/".

    Args:
        names: {file: prefix of its images}.

    Raises:
        UserError: a file cannot be read, or has no image column. SystemFailure: the cache cannot be written.
    """
    cache = cache_folder(place)
    state = {os.fspath(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    with file_lock(cache.with_name(f"{cache.name}.lock"), f"waiting for another process that extracts {place}"):
        if (cache / INDEX).is_file():
            with suppress(UserError):
                index = read_json(cache / INDEX, "an index of images")
                if index.get("state") == state:
                    return {Path(file): paths for file, paths in index["paths"].items()}
        try:
            paths = {file: _extract(file, cache, names[file]) for file in files}
        except OSError as error:
            remedy = REMEDIES.get(error.errno or 0, "check the disk")
            raise SystemFailure(
                f"cannot write images to {cache} ({error.strerror}); {remedy}, or set FDBPL_CACHE to another folder"
            ) from error
        os.sync()  # the images reach the disk before the index that lists them
        write_json(cache / INDEX, {"state": state, "paths": {os.fspath(file): rows for file, rows in paths.items()}})
    return paths


def _extract(file: Path, cache: Path, prefix: str) -> list[str]:
    parquet = open_parquet(file)
    columns = image_columns(parquet)
    if len(columns) != 1:
        found = f"several image columns ({enumerated(columns, 5)})" if columns else "no column of images"
        raise UserError(f"{file} has {found}; one is needed")
    paths: list[str] = []
    rows = parquet.metadata.num_rows
    with tqdm(total=rows, desc=f"Extracting {file.name}", unit="image", leave=False, delay=1, disable=None) as progress:
        for batch in _batches(parquet, columns, file):
            for value in batch.column(columns[0]).to_pylist():
                paths.append(_write_image(value, cache, f"{prefix}/{len(paths):08d}", f"row {len(paths)} of {file}"))
            progress.update(batch.num_rows)
    return paths


def _write_image(value: Any, cache: Path, stem: str, where: str) -> str:
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(content, str):
        content, path = None, content
    if content is None:
        if not isinstance(path, str):
            raise UserError(f"{where} has no image; remove the row")
        return f"/{path}"
    relative = f"{stem}-{hashlib.sha256(content).hexdigest()[:12]}{_ending(content, path)}"
    target = cache / relative
    if not target.is_file() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.partial")
        temporary.write_bytes(content)
        os.replace(temporary, target)
    return relative


def _ending(content: bytes, path: Any) -> str:
    if isinstance(path, str) and is_image(path):
        return os.path.splitext(path)[1].lower()
    try:
        with Image.open(BytesIO(content)) as image:
            return f".{(image.format or 'bin').lower()}"
    except Exception:  # decoders raise many types; the run names the image as unreadable
        return ".bin"
