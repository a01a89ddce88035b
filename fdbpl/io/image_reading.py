"""Image reading as in CoOp and Dassl, with reasons for unreadable files."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from fdbpl.errors import SystemFailure

DEEP_MODES = ("I", "F")  # Pillow modes with 16 or more bits per channel; the conversion to RGB clips them to white
# errors that do not depend on the file
SYSTEM_ERRORS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


class UnreadableImage(Exception):
    """The image cannot be read; the message is the reason, in one line."""


def read_image(source: str | os.PathLike | BytesIO, side: int = 0) -> Image.Image:
    """Read the first frame as RGB; transparency and EXIF orientation are ignored.

    Args:
        side: length of the shorter edge after the resize of the test transform, in pixels; 0 = no such resize.

    Raises:
        UnreadableImage: no file, no image, truncated, more than 8 bits per channel, or too large.
        SystemFailure: the system failed, independent of the file.
    """
    with _opened(source) as image:
        check_size(image.size, side)
        if image.mode.startswith(DEEP_MODES):
            raise UnreadableImage("more than 8 bits per channel, which would turn white: convert it")
        return image.convert("RGB")


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


def image_size(source: str | os.PathLike) -> tuple[int, int]:
    """Return height and width from the header, without the EXIF orientation; raises as `read_image`."""
    with _opened(source) as image:
        return image.height, image.width


def image_mode(source: str | os.PathLike | BytesIO) -> str:
    """Return Pillow's mode from the header; raises as `read_image`."""
    with _opened(source) as image:
        return image.mode


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
        return "no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:120] or type(error).__name__
