"""Image files by name: unusual files, which must be read, and broken files, which must be refused."""

import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image


def scene(width: int = 72, height: int = 56, seed: int = 0) -> Image.Image:
    """Return coarse noise, smoothly interpolated."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    """Return the content of an image file in Pillow's format `kind`."""
    image.save(stream := BytesIO(), kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    """Return a PNG whose header announces the size, but which holds a single row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def _rgb_of_16_bits() -> bytes:
    """Return a PNG with three channels of 16 bits, of which Pillow reads the upper 8."""
    rows = b"".join(b"\0" + bytes(range(6 * 20)) for _ in range(20))
    whole = png_header(20, 20, 16)
    start = whole.index(b"IDAT") - 4
    data = zlib.compress(rows)
    chunk = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return whole[:start] + chunk + whole[whole.index(b"IEND") - 4 :]


def _rotated_by_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(scene(), "JPEG", exif=exif)


def _transparent() -> Image.Image:
    image = scene()
    image.putalpha(Image.fromarray(np.arange(72 * 56).reshape(56, 72).astype(np.uint8)))
    return image


_frames = [scene(seed=number) for number in (1, 2)]

UNUSUAL: dict[str, Callable[[], bytes]] = {
    "grey.jpg": lambda: encode(scene().convert("L"), "JPEG"),
    "cmyk.jpg": lambda: encode(scene().convert("CMYK"), "JPEG"),
    "progressive.jpg": lambda: encode(scene(), "JPEG", progressive=True),
    "rotated by exif.jpg": _rotated_by_exif,
    "bytes after the end.jpg": lambda: encode(scene(), "JPEG") + b"more" * 50,
    "broken exif.jpg": lambda: encode(scene(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "two images.jpg": lambda: encode(scene(), "MPO", save_all=True, append_images=_frames[:1]),
    "a png.jpg": lambda: encode(scene(), "PNG"),
    "a gif.jpg": lambda: encode(scene(), "GIF"),
    "a webp.jpeg": lambda: encode(scene(), "WEBP", quality=90),
    "a jpeg.png": lambda: encode(scene(), "JPEG"),
    "one row.jpg": lambda: encode(scene(37, 1), "JPEG"),
    "one column.jpg": lambda: encode(scene(1, 40), "JPEG"),
    "one pixel.png": lambda: encode(scene(1, 1), "PNG"),
    "very wide.png": lambda: encode(scene(4000, 2), "PNG"),
    "very tall.jpg": lambda: encode(scene(3, 3000), "JPEG"),
    "transparent.png": lambda: encode(_transparent(), "PNG"),
    "grey and transparent.png": lambda: encode(_transparent().convert("LA"), "PNG"),
    "transparent.webp": lambda: encode(_transparent(), "WEBP", lossless=True),
    "palette.png": lambda: encode(scene().quantize(30), "PNG"),
    "palette with a transparent colour.png": lambda: encode(scene().quantize(30), "PNG", transparency=3),
    "palette with alpha.png": lambda: encode(scene().quantize(30), "PNG", transparency=bytes(range(0, 240, 8))),
    "without an end.png": lambda: encode(scene(), "PNG")[:-12],
    "black and white.png": lambda: encode(scene().convert("1"), "PNG"),
    "16 bits in colour.png": _rgb_of_16_bits,
    "animated.gif": lambda: encode(scene(), "GIF", save_all=True, append_images=_frames),
    "animated.png": lambda: encode(scene(), "PNG", save_all=True, append_images=_frames),
    "animated.webp": lambda: encode(scene(), "WEBP", save_all=True, append_images=_frames, lossless=True),
    "plain.bmp": lambda: encode(scene(), "BMP"),
    "cmyk.tif": lambda: encode(scene().convert("CMYK"), "TIFF"),
    "lab.tif": lambda: encode(scene().convert("YCbCr"), "TIFF"),
}


def _truncated(kind: str, tenths: int) -> Callable[[], bytes]:
    def make() -> bytes:
        whole = encode(scene(120, 90), kind)
        return whole[: len(whole) * tenths // 10]

    return make


def _zip() -> bytes:
    with zipfile.ZipFile(stream := BytesIO(), "w") as archive:
        archive.writestr("image.jpg", encode(scene(), "JPEG"))
    return stream.getvalue()


BROKEN: dict[str, Callable[[], bytes]] = {
    **{f"truncated at {tenths} tenths.jpg": _truncated("JPEG", tenths) for tenths in (0, 1, 5, 9)},
    **{f"truncated at {tenths} tenths.png": _truncated("PNG", tenths) for tenths in (1, 9)},
    **{f"truncated at {tenths} tenths.webp": _truncated("WEBP", tenths) for tenths in (1, 9)},
    **{f"truncated at {tenths} tenths.bmp": _truncated("BMP", tenths) for tenths in (1, 9)},
    "zeros.jpg": lambda: bytes(5000),
    "noise.jpg": lambda: np.random.default_rng(0).bytes(5000),
    "text.jpg": lambda: b"a photo of a cat\n" * 20,
    "html.jpg": lambda: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "error.png": lambda: b'{"error": "quota exceeded"}',
    "archive.jpg": _zip,
    "pointer.jpg": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "svg.jpg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>',
    "grey of 16 bits.png": lambda: encode(Image.fromarray(np.full((9, 9), 60000, np.uint16)), "PNG"),
    "grey of 16 bits.tif": lambda: encode(Image.fromarray(np.full((9, 9), 60000, np.uint16)), "TIFF"),
    "integers.tif": lambda: encode(Image.fromarray(np.full((9, 9), 70000, np.int32)), "TIFF"),
    "floats.tif": lambda: encode(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF"),
    "bomb.png": lambda: png_header(60_000, 60_000),
    "bomb.gif": lambda: b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\xf0\0\0" + bytes(6) + b";",
    "largest.png": lambda: png_header(2**31 - 1, 2**31 - 1),
    "no pixels.png": lambda: png_header(0, 5),
    "without an end.jpg": lambda: encode(scene(), "JPEG")[:-2],
    "start and end.jpg": lambda: b"\xff\xd8\xff\xd9",
}
