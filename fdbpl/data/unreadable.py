"""Images that cannot be decoded: all are named at the start, or left out (DATASET.SKIP_UNREADABLE)."""

from pathlib import Path

from yacs.config import CfgNode

from fdbpl.data.rows import Item
from fdbpl.errors import UserError
from fdbpl.io.image_check import check_readable, list_unreadable, unreadable_images


def find_unreadable(images: Path, paths: list[str], cfg: CfgNode, cache: Path) -> dict[str, str] | None:
    """Return {path: reason} of the images to leave out; None if DATASET.SKIP_UNREADABLE is False.

    Args:
        images: folder that `paths` start from.
        cache: file that records which images were decoded before.

    Raises:
        UserError: names all images that cannot be decoded, unless DATASET.SKIP_UNREADABLE is True.
    """
    side = max(cfg.INPUT.SIZE)  # test transforms resize the shorter edge to it
    listing = Path(cfg.OUTPUT_DIR, "unreadable.txt") if cfg.OUTPUT_DIR else None
    if listing and listing.is_file():
        listing.unlink()  # of an earlier attempt
    if not cfg.DATASET.SKIP_UNREADABLE:
        otherwise = "set DATASET.SKIP_UNREADABLE True to leave them out"
        check_readable(images, paths, cache, listing, otherwise, side)
        return None
    bad = unreadable_images(images, paths, cache, side=side)
    what = list_unreadable(bad, listing) if bad else "all can be read"
    print(f"Left out of {len(paths)} images below {images}: {len(bad)} ({what}; DATASET.SKIP_UNREADABLE)")
    return bad


def leave_out(splits: dict[str, list[Item]], bad: dict[str, str], source: Path) -> dict[str, list[Item]]:
    """Return `splits` without the images `bad`.

    Raises:
        UserError: no training image of a class, or no test image, remains.
    """
    left = {part: [row for row in rows if row[0] not in bad] for part, rows in splits.items()}
    trained = {row[1] for row in left["train"]}
    lost = [row[2] for row in splits["train"] if row[1] not in trained]
    if lost or not left["test"]:
        what = f"training image of {lost[0]!r}" if lost else "test image"
        raise UserError(
            f"no {what} in {source} can be read: DATASET.SKIP_UNREADABLE leaves out {len(bad)} images; replace some of "
            "them"
        )
    return left
