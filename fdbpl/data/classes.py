"""Class names of a split, and its base and new halves."""

from pathlib import Path

from fdbpl.class_names import check_distinct
from fdbpl.data.rows import Item
from fdbpl.errors import UserError, enumerated, quoted

SUBSAMPLES = ("all", "base", "new")


def class_names(splits: dict[str, list[Item]], source: Path, remedy: str, distinct: bool = True) -> list[str]:
    """Return the name of each label 0 .. C-1.

    Args:
        source: where the rows are from, and `remedy`, how to fix them: for the message.
        distinct: refuse two labels whose names are equal, or become equal in CLIP's tokenizer.

    Raises:
        UserError: there are no rows, a label has two names, two labels share a name, or labels or training images of a
            class are missing.
    """
    for part in ("train", "test"):
        if not splits[part]:
            raise UserError(f"{source} has no images in {part}; {remedy}")
    names: dict[int, set[str]] = {}
    for rows in splits.values():
        for _, label, name in rows:
            names.setdefault(label, set()).add(name)
    for label, found in names.items():
        if len(found) > 1:
            several = ", ".join(quoted(name) for name in sorted(found))
            raise UserError(f"label {label} has several class names in {source}: {several}; {remedy}")
    absent = next((number for number, label in enumerate(sorted(names)) if number != label), None)
    if absent is not None:
        raise UserError(
            f"the labels in {source} must be 0, 1, 2 ... without gaps, but no image has label {absent} (the largest is "
            f"{quoted(max(names))}); {remedy}"
        )
    if len(names) == 1:
        raise UserError(f"{source} has one class only ({enumerated(names[0])}), but at least two are needed; {remedy}")
    untrained = sorted(set(names) - {label for _, label, _ in splits["train"]})
    if untrained:
        raise UserError(
            f"{source} has no training images of {enumerated(names[untrained[0]])} ({len(untrained)} such classes); "
            f"{remedy}"
        )
    in_order = [min(names[label]) for label in sorted(names)]
    if distinct:
        check_distinct(in_order, str(source), "give one of the two classes another name")
    return in_order


def subsample_classes(*sources: list[Item], subsample: str = "all") -> list[list[Item]]:
    """Select the rows of half of the classes, relabelled from 0: `base` is the first ceil(C/2) labels, `new` the rest.

    The labels are those of the first source, as in CoOp's datasets/oxford_pets.py.

    Raises:
        UserError: `subsample` is unknown, or the half has fewer than two classes.
    """
    if subsample not in SUBSAMPLES:
        raise UserError(f"DATASET.SUBSAMPLE_CLASSES is {quoted(subsample)}; set one of {', '.join(SUBSAMPLES)}")
    if subsample == "all":
        return [list(source) for source in sources]
    labels = sorted({row[1] for row in sources[0]})
    half = (len(labels) + 1) // 2
    selected = labels[:half] if subsample == "base" else labels[half:]
    if len(selected) < 2:
        raise UserError(
            f"the {subsample} half has only {len(selected)} of {len(labels)} classes, but at least two are needed; set "
            "DATASET.SUBSAMPLE_CLASSES all"
        )
    relabel = {old: new for new, old in enumerate(selected)}
    return [[(path, relabel[label], name) for path, label, name in rows if label in relabel] for rows in sources]
