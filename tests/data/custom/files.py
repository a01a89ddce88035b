"""Small custom data sets in the layouts that people use."""

import csv
import io
import zlib
from pathlib import Path

import pytest
from PIL import Image

from fdbpl.data.custom.dataset import CustomData, read_custom_data
from fdbpl.errors import UserError

ENDINGS = ("jpg", "png", "webp", "gif", "bmp", "tif", "JPG", "jpeg")
CLASSES = ("red fox", "grey_wolf", "dog-10", "dog-9")
NAMES = ["dog 9", "dog 10", "grey wolf", "red fox"]  # of CLASSES, in natural order


def image_bytes(seed: object, kind: str = "PNG") -> bytes:
    """An image of two pixels that depends on `seed`."""
    number = zlib.crc32(str(seed).encode(errors="surrogateescape"))
    image = Image.new("RGB", (2, 1), (number % 256, number // 256 % 256, number // 65536 % 256))
    image.save(stream := io.BytesIO(), kind)
    return stream.getvalue()


def write_image(file: Path, seed: object = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = Image.registered_extensions()[file.suffix.lower()]
    file.write_bytes(image_bytes(file if seed is None else seed, kind))


def write_classes(folder: Path, classes=CLASSES, count=8) -> Path:
    """`count` images of each class in FOLDER/CLASS."""
    for name in classes:
        for number in range(count):
            write_image(folder / name / f"image {number}.{ENDINGS[number % len(ENDINGS)]}")
    return folder


def write_flat(folder: Path, classes=CLASSES, count=6, ending=".png") -> list[tuple[str, str]]:
    """Images in one folder; (file name, class) of each."""
    rows = [(f"{number}_{name}{ending}", name) for name in classes for number in range(count)]
    for file, _ in rows:
        write_image(folder / file)
    return rows


def write_csv(file: Path, rows, header=("path", "class"), delimiter=",", encoding="utf-8") -> Path:
    with open(file, "w", newline="", encoding=encoding) as handle:
        csv.writer(handle, delimiter=delimiter).writerows([*([header] if header else []), *rows])
    return file


def sizes(data: CustomData) -> tuple[int, int, int]:
    """Numbers of training, validation and test images."""
    return len(data.rows["train"]), len(data.rows["val"]), len(data.rows["test"])


def paths(data: CustomData) -> dict[str, set[str]]:
    return {part: {row[0] for row in rows} for part, rows in data.rows.items()}


def all_paths(data: CustomData) -> set[str]:
    return set().union(*paths(data).values())


def labels(data: CustomData) -> dict[str, str]:
    """{path: class name}."""
    return {path: name for rows in data.rows.values() for path, _, name in rows}


def refusal(place: object) -> str:
    """The message with which the data are refused."""
    with pytest.raises(UserError) as caught:
        read_custom_data(str(place))
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000
    return message


def has_guess(data: CustomData, *words: str) -> bool:
    """Return whether one of the printed guesses contains all `words`."""
    return any(all(word in guess for word in words) for guess in data.guesses)
