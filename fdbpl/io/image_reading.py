"""Image reading, as in CoOp and Dassl or as image viewers display the images, with reasons for unreadable files."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from fdbpl.errors import SystemFailure

DEEP_MODES = ("I", "F")  # Pillow modes with 16 or more bits per channel; the conversion to RGB clips them to white
# errors that do not depend on the file
SYSTEM_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


TRANSPOSE = {  # EXIF orientation -> operation that displays the image upright; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoding:
    """Settings that determine the RGB pixels of an image file.

    Attributes:
        exif_orientation: rotate and mirror the image according to its EXIF metadata; False: keep the stored pixels.
        white_background: compose transparent pixels over white; False: drop the alpha channel.
    """

    exif_orientation: bool = False
    white_background: bool = False

    def __str__(self) -> str:
        text = f"EXIF orientation {'applied' if self.exif_orientation else 'ignored'}"
        return text + ", transparency over white" * self.white_background


STORED = Decoding()  # as CoOp and Dassl read the field's data sets
DISPLAYED = Decoding(exif_orientation=True, white_background=True)  # as image viewers show the user's own images


class UnreadableImage(Exception):
    """The image cannot be read; the message is the reason, in one line."""


class ImageHeader(NamedTuple):
    """Properties of an image that are known without its pixels.

    Attributes:
        height, width: in pixels, as `read_image` returns the image.
        mode: Pillow's mode of the file.
        stored: whether `read_image` returns the stored pixels: nothing is rotated or composed over white.
    """

    height: int
    width: int
    mode: str
    stored: bool


def read_image(source: str | os.PathLike | BytesIO, side: int = 0, decoding: Decoding = STORED) -> Image.Image:
    """Read the first frame as RGB.

    Args:
        side: length of the shorter edge after the resize of the test transform, in pixels; 0 = no resize.

    Raises:
        UnreadableImage: no file, no image, truncated, more than 8 bits per channel, or too large.
        SystemFailure: the system failed, independent of the file.
    """
    with _opened(source) as image:
        check_size(image.size, side)
        if image.mode.startswith(DEEP_MODES):
            raise UnreadableImage("more than 8 bits per channel, which would turn white: convert it")
        image.load()  # turns TIFF files as a side effect
        orientation = _orientation(image, decoding)
        upright = image.transpose(TRANSPOSE[orientation]) if orientation in TRANSPOSE else image
        if decoding.white_background and upright.has_transparency_data:
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright.convert("RGBA"))
        return upright.convert("RGB")


def read_header(source: str | os.PathLike | BytesIO, decoding: Decoding = STORED) -> ImageHeader:
    """Read the properties of an image from its header; raises as `read_image`."""
    with _opened(source) as image:
        orientation = _orientation(image, decoding)
        height, width = (image.width, image.height) if orientation >= 5 else (image.height, image.width)
        composed = decoding.white_background and image.has_transparency_data
        return ImageHeader(height, width, image.mode, orientation == 1 and not composed)


def _orientation(image: Image.Image, decoding: Decoding) -> int:
    """Return the EXIF orientation that has to be applied; 1 if none has, or if the metadata are missing or broken."""
    if not decoding.exif_orientation or image.format == "TIFF":  # Pillow turns TIFF files itself
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken metadata raise many types
        return 1
    return value if isinstance(value, int) and value in TRANSPOSE else 1


def check_size(size: tuple[int, int], side: int) -> None:
    """Check that an image does not become too large when its shorter edge is resized to `side` pixels.

    The limit is Pillow's for files; a long thin image may pass that limit and become too large here.

    Args:
        size: of the image, in pixels.

    Raises:
        UnreadableImage: the resized image would have too many pixels.
    """
    pixels = side**2 * max(size) // max(min(size), 1)
    if Image.MAX_IMAGE_PIXELS and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise UnreadableImage(
            f"{size[0]} x {size[1]} pixels become {pixels / 1e6:.0f} million when the shorter edge is resized to "
            f"{side}: crop it"
        )


@contextmanager
def _opened(source: str | os.PathLike | BytesIO) -> Iterator[Image.Image]:
    try:
        if not isinstance(source, BytesIO):
            _check_regular_file(source)
        with Image.open(source) as image:
            yield image
    except UnreadableImage:
        raise
    except MemoryError as error:
        raise SystemFailure(f"Not enough memory to decode {source}. Close other programs") from error
    except Exception as error:  # decoders raise many types
        if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
            raise SystemFailure(f"{source} cannot be read ({error.strerror}). Run the same command again") from error
        raise UnreadableImage(_reason(error)) from error


def _check_regular_file(path: str | os.PathLike) -> None:
    """Check that `path` is a regular file: reading a pipe would block."""
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise UnreadableImage("a folder" if stat.S_ISDIR(state.st_mode) else "not a regular file")
    if not state.st_size:
        raise UnreadableImage("empty")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:120] or type(error).__name__
