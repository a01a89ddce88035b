"""Check of many image files. Readable files are remembered, so that each is decoded only once."""

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

NAMED = 20  # in a message; longer lists are written to a file
THIN = 100  # aspect ratio beyond which readability depends on `side`; such images are not remembered
TOGETHER = 64  # files per task of a thread

_read: set[int] = set()  # fingerprints of the files that this process has read


def unreadable_images(
    root: str | os.PathLike,
    paths: Iterable[str],
    remembered: Path | None = None,
    title: str = "Checking images",
    side: int = 0,
) -> dict[str, str]:
    """{path: reason} of the files that cannot be decoded, in order.

    Args:
        root: folder that `paths` start from.
        remembered: file with the seals of what was read before, by any process; what is read now is added to it.
        side: as of `read_image`.
    """
    paths = list(dict.fromkeys(paths))
    known = _read | (_seals_in(remembered) if remembered else set())
    parts = [paths[start : start + TOGETHER] for start in range(0, len(paths), TOGETHER)]
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
    _read.update(fresh)
    if remembered and fresh - known:
        with suppress(SystemFailure):  # then the next start decodes them again
            write_tensors(remembered, {"seals": torch.tensor(sorted(known | fresh), dtype=torch.int64)})
    return bad


def refuse_unreadable(
    root: str | os.PathLike,
    paths: Iterable[str],
    remembered: Path | None = None,
    listing: Path | None = None,
    otherwise: str = "take them out of the split",
    side: int = 0,
) -> None:
    """Raise a UserError that names all files that cannot be decoded.

    Args:
        remembered: as of `unreadable_images`. listing: as of `named`.
        otherwise: what can be done but replace the files. side: as of `read_image`.
    """
    paths = list(dict.fromkeys(paths))
    bad = unreadable_images(root, paths, remembered, side=side)
    if bad:
        raise UserError(
            f"expected {len(paths)} readable images below {root}, found {len(bad)} that are not "
            f"({named(bad, listing)}); replace them, or {otherwise}"
        )


def named(bad: dict[str, str], listing: Path | None = None) -> str:
    """`path: reason; ...`; a long list is written to the file `listing` (if given), which the text names."""
    pairs = [f"{path}: {reason}" for path, reason in bad.items()]
    if listing and len(pairs) > NAMED:
        with suppress(SystemFailure):
            write_text(listing, "".join(f"{pair}\n" for pair in pairs))
            return f"{'; '.join(pairs[:3])} ...; all of them are named in {listing}"
    return "; ".join(pairs)


def _check(root: str | os.PathLike, paths: list[str], known: set[int], side: int) -> tuple[dict[str, str], set[int]]:
    """Unreadable files with their reasons, and the fingerprints of the readable ones."""
    bad, seals = {}, set()
    for path in paths:
        file = os.path.join(root, path)
        try:
            seal = _seal(file)
            if seal not in known and max(size := read_image(file, side).size) > THIN * min(size):
                continue
            seals.add(seal)
        except UnreadableImage as error:
            bad[path] = str(error)
    return bad, seals


def _seal(file: str) -> int:
    """A 64-bit hash of a file's path, size and modification time."""
    try:
        state = os.stat(file)
    except (OSError, ValueError) as error:
        raise UnreadableImage(getattr(error, "strerror", None) or str(error)) from error
    text = f"{os.path.abspath(file)}\0{state.st_size}\0{state.st_mtime_ns}"
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _seals_in(file: Path) -> set[int]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return set(load_file(file)["seals"].tolist())
    except (OSError, SafetensorError, KeyError, ValueError):
        return set()  # not there, or not ours: all are decoded again
