"""One way to read an image file, that of CoOp and Dassl; and why a file cannot be read."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, UnidentifiedImageError

from fdbpl.errors import SystemFailure

DEEP_MODES = ("I", "F")  # Pillow's of 16 bits a channel and more; converted to RGB they are cut off, which is white
MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE, errno.ETIMEDOUT}  # not the file's fault


class UnreadableImage(Exception):
    """The file holds no image that can be read; the message is the reason, in one line."""


def read_image(source: str | os.PathLike | BytesIO, side: int = 0) -> Image.Image:
    """The image as RGB: the first frame, transparency dropped, EXIF orientation ignored.

    Args:
        side: pixels that the shorter edge will be resized to, as test transforms do; 0 = it will not be resized so.

    Raises:
        UnreadableImage: no file, no image, a part of one, more than 8 bits a channel, or too large to be trusted.
        SystemFailure: the machine fails, whatever is in the file.
    """
    with _opened(source) as image:
        refuse_large(image.size, side)
        if image.mode.startswith(DEEP_MODES):
            raise UnreadableImage("more than 8 bits a channel, which would turn white: convert it")
        return image.convert("RGB")


def refuse_large(size: tuple[int, int], side: int) -> None:
    """Refuse an image that takes too much memory once its shorter edge is resized to `side` pixels.

    The limit is the one that Pillow has for files: a thin image of few pixels may pass it there and not here.

    Args:
        size: of the image, in pixels.

    Raises:
        UnreadableImage: the resized image would have too many pixels.
    """
    pixels = side**2 * max(size) // max(min(size), 1)
    if Image.MAX_IMAGE_PIXELS and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise UnreadableImage(
            f"{size[0]} x {size[1]} pixels, which are {pixels / 1e6:.0f} million when the shorter edge is resized to "
            f"{side}: crop it"
        )


def image_size(source: str | os.PathLike) -> tuple[int, int]:
    """Height and width as stored (EXIF orientation ignored), from the header alone; raises as `read_image`."""
    with _opened(source) as image:
        return image.height, image.width


def image_mode(source: str | os.PathLike | BytesIO) -> str:
    """Pillow's mode, from the header alone; raises as `read_image`."""
    with _opened(source) as image:
        return image.mode


@contextmanager
def _opened(source: str | os.PathLike | BytesIO) -> Iterator[Image.Image]:
    try:
        if not isinstance(source, BytesIO):
            _refuse_others_than_files(source)
        with Image.open(source) as image:
            yield image
    except UnreadableImage:
        raise
    except MemoryError as error:
        raise SystemFailure(f"cannot decode {source} (no memory left); close other programs") from error
    except Exception as error:  # each decoder raises its own kinds
        if isinstance(error, OSError) and error.errno in MACHINE:
            raise SystemFailure(f"cannot read {source} ({error.strerror}); run the same command again") from error
        raise UnreadableImage(_reason(error)) from error


def _refuse_others_than_files(path: str | os.PathLike) -> None:
    """A pipe would be waited for for ever."""
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise UnreadableImage("a folder" if stat.S_ISDIR(state.st_mode) else "no regular file")
    if not state.st_size:
        raise UnreadableImage("empty")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:120] or type(error).__name__
