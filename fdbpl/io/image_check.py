"""Check that many image files can be decoded. A cache of readable files avoids decoding a file twice."""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import torch
from tqdm import tqdm

from fdbpl.errors import SystemFailure, UserError
from fdbpl.io.atomic import write_text
from fdbpl.io.image_reading import UnreadableImage, read_image
from fdbpl.io.tensor_files import write_tensors

MAX_LISTED = 20  # files in a message; longer lists are written to a file
MAX_CACHED_ASPECT = 100  # above this aspect ratio the result depends on `side` and is not cached
CHUNK = 64  # files per task of a thread

_readable: set[int] = set()  # fingerprints of the files that this process has decoded


def unreadable_images(
    root: str | os.PathLike,
    paths: Iterable[str],
    remembered: Path | None = None,
    title: str = "Checking images",
    side: int = 0,
) -> dict[str, str]:
    """Return {path: reason} of the files that cannot be decoded, in order.

    Args:
        root: folder that `paths` are relative to.
        remembered: cache file with the fingerprints of readable files; those found now are added to it.
        side: as for `read_image`.
    """
    paths = list(dict.fromkeys(paths))
    known = _readable | (_read_fingerprints(remembered) if remembered else set())
    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    bad: dict[str, str] = {}
    fresh: set[int] = set()
    with (
        ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool,
        tqdm(total=len(paths), desc=title, unit="image", leave=False, delay=1, disable=None) as progress,
    ):
        for part, found in zip(parts, pool.map(lambda part: _check(root, part, known, side), parts), strict=True):
            bad.update(found[0])
            fresh |= found[1]
            progress.update(len(part))
    _readable.update(fresh)
    if remembered and fresh - known:
        with suppress(SystemFailure):  # the next run decodes them again
            write_tensors(remembered, {"seals": torch.tensor(sorted(known | fresh), dtype=torch.int64)})
    return bad


def check_readable(
    root: str | os.PathLike,
    paths: Iterable[str],
    remembered: Path | None = None,
    listing: Path | None = None,
    otherwise: str = "take them out of the split",
    side: int = 0,
) -> None:
    """Raise a UserError that names all files that cannot be decoded.

    Args:
        remembered, side: as for `unreadable_images`.
        listing: as for `list_unreadable`.
        otherwise: what the user can do other than replace the files.
    """
    paths = list(dict.fromkeys(paths))
    bad = unreadable_images(root, paths, remembered, side=side)
    if bad:
        raise UserError(
            f"{len(bad)} of {len(paths)} images in {root} cannot be read ({list_unreadable(bad, listing)}). "
            f"Replace them, or {otherwise}"
        )


def list_unreadable(bad: dict[str, str], listing: Path | None = None) -> str:
    """Return "path: reason; ...". A long list is written to the file `listing` (if given), whose path is returned."""
    pairs = [f"{path}: {reason}" for path, reason in bad.items()]
    if listing and len(pairs) > MAX_LISTED:
        with suppress(SystemFailure):
            write_text(listing, "".join(f"{pair}\n" for pair in pairs))
            return f"{'; '.join(pairs[:3])} ...; {listing} lists all of them"
    return "; ".join(pairs)


def _check(root: str | os.PathLike, paths: list[str], known: set[int], side: int) -> tuple[dict[str, str], set[int]]:
    """Return {path: reason} of the unreadable files, and the fingerprints of the readable ones."""
    bad, fingerprints = {}, set()
    for path in paths:
        file = os.path.join(root, path)
        try:
            fingerprint = _fingerprint(file)
            if fingerprint not in known and max(size := read_image(file, side).size) > MAX_CACHED_ASPECT * min(size):
                continue
            fingerprints.add(fingerprint)
        except UnreadableImage as error:
            bad[path] = str(error)
    return bad, fingerprints


def _fingerprint(file: str) -> int:
    """Return a 64-bit hash of a file's path, size and modification time."""
    try:
        state = os.stat(file)
    except (OSError, ValueError) as error:
        raise UnreadableImage(getattr(error, "strerror", None) or str(error)) from error
    text = f"{os.path.abspath(file)}\0{state.st_size}\0{state.st_mtime_ns}"
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _read_fingerprints(file: Path) -> set[int]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return set(load_file(file)["seals"].tolist())
    except (OSError, SafetensorError, KeyError, ValueError):
        return set()  # no cache: all files are decoded
