"""One file of regions: what it says of itself, and whether its bytes are those that were written."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fdbpl.errors import UserError
from fdbpl.regions.shard_reader import REMEDY, Header, Layout

TENSORS = {"boxes", "flips", "embeddings"}
KEYS = {"images", "sha256", "sizes", "first", "count", "decoder", "payload", "bank"}  # of a shard's header
DECODERS = ("", "cpu", "nvjpeg")
TOP_TENSORS = {"boxes", "flips", "probabilities", "classes", "entropy"}


@dataclass(frozen=True)
class Shard:
    """One file of regions: its images in order, each with `count` regions from number `first` on.

    Attributes:
        decoder: what decoded the images (`RegionPipeline.decoder`); "" = not recorded, as in older files.
    """

    file: Path
    images: list[str]
    sha256: list[str]
    sizes: list[tuple[int, int]]
    first: int
    count: int
    decoder: str = ""
    tensors: Layout = field(default_factory=dict)  # where they lie in the file, once it is written

    @property
    def order(self) -> tuple[int, str]:
        """By first region number, then by name."""
        return self.first, self.file.name


def parse_shard_header(file: Path, header: Header, names: set[str]) -> Shard:
    """What the header of a shard with tensors called `names` says of it.

    Raises:
        UserError: not what such a header says.
    """
    try:
        images, sha256, sizes, first, count = (
            header.shard[key] for key in ("images", "sha256", "sizes", "first", "count")
        )
        if not (isinstance(first, int) and isinstance(count, int) and first >= 0 and count >= 1):
            raise ValueError(f"regions {first!r:.40} and {count!r:.40} more")
        if not all(isinstance(word, str) for word in [*images, *sha256]):
            raise ValueError("images that are no paths")
        if not all(isinstance(size, list) and len(size) == 2 for size in sizes):
            raise ValueError("sizes that are none")
        sizes = [(int(height), int(width)) for height, width in sizes]
        decoder = decoder_of(header.shard)
        if header.tensors.keys() != names:
            raise ValueError(f"tensors {', '.join(sorted(header.tensors))}, not {', '.join(sorted(names))}")
        rows = {shape[0] if shape else 0 for _, shape, _ in header.tensors.values()}
        if not len(images) == len(sha256) == len(sizes) or rows != {len(images) * count}:
            raise ValueError(f"{len(images)} images, {len(sha256)} hashes, {len(sizes)} sizes, rows {sorted(rows)}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"expected a shard of regions in {file}, found a broken file ({type(error).__name__}: {error}); {REMEDY}"
        ) from error
    return Shard(file, images, sha256, sizes, first, count, decoder, header.tensors)


def decoder_of(header: dict) -> str:
    """What decoded the images of a file with this header; "" where older files do not record it.

    Raises:
        ValueError: an unknown decoder.
    """
    decoder = header.get("decoder", "")
    if decoder not in DECODERS:
        raise ValueError(f"the decoder {decoder!r:.40}")
    return decoder


def is_intact(file: Path) -> bool:
    """Whether a file's tensors are those that were written."""
    try:
        with safe_open(file, "pt") as content:
            expected = json.loads(content.metadata()["shard"])["payload"]
            return expected == content_checksum({key: content.get_tensor(key) for key in content.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return False


def content_checksum(tensors: dict[str, Tensor]) -> str:
    """Hex SHA-256 over names, shapes and values."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].contiguous()
        sha.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        sha.update(np.ascontiguousarray(array.numpy()).tobytes())
    return sha.hexdigest()
