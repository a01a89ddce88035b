"""Shards: one file of regions, its header and its checksum."""

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
TOP_K_TENSORS = {"boxes", "flips", "probabilities", "classes", "entropy"}
HEADER_KEYS = {"images", "sha256", "sizes", "first", "count", "decoder", "payload", "bank"}
DECODERS = ("", "cpu", "nvjpeg")


@dataclass(frozen=True)
class Shard:
    """One file of regions: its images in order, each with the regions `first` ... `first + count - 1`.

    Attributes:
        decoder: decoder of the images (`RegionPipeline.decoder`); "" if not recorded, as in older files.
        tensors: layout of the tensors in the file; empty until it is written.
    """

    file: Path
    images: list[str]
    sha256: list[str]
    sizes: list[tuple[int, int]]
    first: int
    count: int
    decoder: str = ""
    tensors: Layout = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, str]:
        """Sort key: first region number, then name."""
        return self.first, self.file.name


def parse_shard_header(file: Path, header: Header, names: set[str]) -> Shard:
    """Parse the header of a shard whose tensors are called `names`.

    Raises:
        UserError: the header is invalid.
    """
    try:
        images, sha256, sizes, first, count = (
            header.shard[key] for key in ("images", "sha256", "sizes", "first", "count")
        )
        if not (isinstance(first, int) and isinstance(count, int) and first >= 0 and count >= 1):
            raise ValueError(f"first region {first!r:.40}, count {count!r:.40}")
        if not all(isinstance(word, str) for word in [*images, *sha256]):
            raise ValueError("images or hashes that are not strings")
        if not all(isinstance(size, list) and len(size) == 2 for size in sizes):
            raise ValueError("invalid image sizes")
        sizes = [(int(height), int(width)) for height, width in sizes]
        decoder = parse_decoder(header.shard)
        if header.tensors.keys() != names:
            raise ValueError(f"tensors {', '.join(sorted(header.tensors))} instead of {', '.join(sorted(names))}")
        rows = {shape[0] if shape else 0 for _, shape, _ in header.tensors.values()}
        if not len(images) == len(sha256) == len(sizes) or rows != {len(images) * count}:
            raise ValueError(f"{len(images)} images, {len(sha256)} hashes, {len(sizes)} sizes, rows {sorted(rows)}")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"Broken shard of a region bank: {file} ({type(error).__name__}: {error}). {REMEDY}") from error
    return Shard(file, images, sha256, sizes, first, count, decoder, header.tensors)


def parse_decoder(header: dict) -> str:
    """Return the decoder that a header records; "" if it records none, as in older files.

    Raises:
        ValueError: the decoder is unknown.
    """
    decoder = header.get("decoder", "")
    if decoder not in DECODERS:
        raise ValueError(f"unknown decoder {decoder!r:.40}")
    return decoder


def is_intact(file: Path) -> bool:
    """Return whether a file's tensors match its checksum."""
    try:
        with safe_open(file, "pt") as content:
            expected = json.loads(content.metadata()["shard"])["payload"]
            return expected == content_checksum({key: content.get_tensor(key) for key in content.keys()})  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return False


def content_checksum(tensors: dict[str, Tensor]) -> str:
    """Return the hex SHA-256 over the names, shapes, dtypes and values of tensors."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].contiguous()
        sha.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        sha.update(np.ascontiguousarray(array.numpy()).tobytes())
    return sha.hexdigest()
