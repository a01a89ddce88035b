"""Images of a data set that cannot be decoded: all named at the start, or left out (DATASET.SKIP_UNREADABLE)."""

from pathlib import Path

from yacs.config import CfgNode

from fdbpl.data.rows import Item
from fdbpl.errors import UserError
from fdbpl.io.image_check import named, refuse_unreadable, unreadable_images


def unreadable_of(images: Path, paths: list[str], cfg: CfgNode, remembered: Path) -> dict[str, str] | None:
    """{path: reason} of what is to be left out; None where DATASET.SKIP_UNREADABLE is False and all can be read.

    Args:
        images: folder that `paths` start from. remembered: file of what has been read before.

    Raises:
        UserError: names all images that cannot be decoded, unless they are to be left out.
    """
    side = max(cfg.INPUT.SIZE)  # of test images, whose shorter edge is resized to it
    listing = Path(cfg.OUTPUT_DIR, "unreadable.txt") if cfg.OUTPUT_DIR else None
    if listing and listing.is_file():
        listing.unlink()  # an earlier attempt's
    if not cfg.DATASET.SKIP_UNREADABLE:
        otherwise = "set DATASET.SKIP_UNREADABLE True to leave them out"
        refuse_unreadable(images, paths, remembered, listing, otherwise, side)
        return None
    bad = unreadable_images(images, paths, remembered, side=side)
    what = named(bad, listing) if bad else "all can be read"
    print(f"Left out of {len(paths)} images below {images}: {len(bad)} ({what}; DATASET.SKIP_UNREADABLE)")
    return bad


def without(splits: dict[str, list[Item]], bad: dict[str, str], source: Path) -> dict[str, list[Item]]:
    """`splits` less the images `bad`.

    Raises:
        UserError: no training image of a class is left, or no test image.
    """
    left = {part: [row for row in rows if row[0] not in bad] for part, rows in splits.items()}
    learnt = {row[1] for row in left["train"]}
    lost = [row[2] for row in splits["train"] if row[1] not in learnt]
    if lost or not left["test"]:
        what = f"no training image of {lost[0]!r}" if lost else "no test image"
        raise UserError(
            f"expected a readable training image of every class and a test image in {source}, found {what} when the "
            f"{len(bad)} unreadable ones were left out (DATASET.SKIP_UNREADABLE); replace some of them"
        )
    return left
