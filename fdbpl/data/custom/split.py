"""Split of the images into training, validation and test."""

import hashlib
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase

from fdbpl.data.custom.description import Description
from fdbpl.data.custom.listing import Listing
from fdbpl.data.custom.split_names import PARTS
from fdbpl.errors import UserError, enumerated, quoted

SHARES = (0.5, 0.2, 0.3)  # of train, val and test, as in CoOp


def assign_split(listing: Listing, description: Description, training: bool = True) -> tuple[dict[str, str], str]:
    """Return {path: part}, and the source of the split.

    Args:
        training: False: without a given split, all images are test images.

    Raises:
        UserError: the split is given twice, or a class has too few images to be split.
    """
    if listing.split_source and (description.split_shares or description.split_patterns):
        raise UserError(
            f"the split is given twice, by {listing.split_source} and by split in {description.file}; remove one of "
            "them"
        )
    if description.split_patterns:
        return _listed_split(listing, description)
    if listing.split_source:
        parts = {image.path: image.split for image in listing.images}
        if "test" in parts.values():
            return parts, listing.split_source
        tested = {path: "test" if part == "val" else part for path, part in parts.items()}
        return tested, f"{listing.split_source}; no test, so val is tested on"
    if not training and not description.split_shares:
        return {image.path: "test" for image in listing.images}, "all images are test images"
    shares = description.split_shares or SHARES
    by_class: dict[str, list[str]] = {}
    for image in listing.images:
        by_class.setdefault(image.label, []).append(image.path)
    single = [label for label, paths in by_class.items() if len(paths) < 2]
    if single and training:
        raise UserError(
            f"{listing.folder} has only one image of {enumerated(single, 3)}, but two are needed, to train and to "
            "test; add more"
        )
    parts = {path: part for paths in by_class.values() for path, part in hashed_split(paths, shares).items()}
    where = description.file.name if description.split_shares else "default"
    return parts, f"{where}: {'/'.join(f'{100 * share:g}' for share in shares)} % of each class, by hashes of the paths"


def _listed_split(listing: Listing, description: Description) -> tuple[dict[str, str], str]:
    """Split by the paths or patterns of dataset.yaml; images that match none of them are left out."""
    part_of: dict[str, str] = {}
    file = description.file
    for part, patterns in description.split_patterns.items():
        for pattern in patterns:
            matches = [
                image.path for image in listing.images if image.path == pattern or fnmatchcase(image.path, pattern)
            ]
            if not matches:
                raise UserError(f"no image matches {quoted(pattern)} of split in {file}; correct or remove it")
            for path in matches:
                if part_of.setdefault(path, part) != part:
                    raise UserError(f"{file} assigns {path} to both {part_of[path]} and {part}; remove one of them")
    left_out = [image.path for image in listing.images if image.path not in part_of]
    for path in left_out:
        listing.skip(str(listing.folder / path), f"in no part of {file.name}")
    return part_of, file.name + (f"; {len(left_out)} images in no part are left out" if left_out else "")


def hashed_split(paths: Sequence[str], shares: Sequence[float]) -> dict[str, str]:
    """Return {path: part} of one class's images, stable when images are added or removed.

    The paths are sorted by their hashes and cut at two places, so that one image more or less moves at most one other
    across each cut. At least one image is trained on, and one is tested on.

    Args:
        paths: two or more.
        shares: of train, val and test; their sum is 1.
    """
    ordered = sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())
    first = min(max(_nearest(len(paths) * shares[0]), 1), len(paths) - 1)
    second = min(max(_nearest(len(paths) * (shares[0] + shares[1])), first), len(paths) - 1)
    return {path: PARTS[(number >= first) + (number >= second)] for number, path in enumerate(ordered)}


def _nearest(number: float) -> int:
    """Return the nearest integer, halves rounded up; exact although 0.7 has no exact binary form."""
    return math.floor(round(number, 6) + 0.5)
