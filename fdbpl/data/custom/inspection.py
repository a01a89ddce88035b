"""Inspection of a data set without training: classes, splits, prompts, and what may spoil a result."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from fdbpl.data.classes import class_names, subsample_classes
from fdbpl.data.custom import hub
from fdbpl.data.custom.checks import (
    MIN_FOR_HALVES,
    ClassSummary,
    byte_identical,
    class_warnings,
    duplicate_warnings,
)
from fdbpl.data.custom.dataset import CustomData, read_custom_data
from fdbpl.data.custom.field_data import find_field_data, read_field_data
from fdbpl.data.custom.split_names import PARTS
from fdbpl.data.rows import Item
from fdbpl.io.image_check import unreadable_images
from fdbpl.templates import fill_template

LISTED = 20  # skipped files and unreadable images in the text; JSON lists all


@dataclass(frozen=True)
class Inspection:
    """Result of an inspection.

    Attributes:
        duplicates: groups of byte-identical images, of which some are in several splits or classes.
        unreadable: {path: reason}.
        warnings: what may spoil a result.
    """

    data: CustomData
    classes: list[ClassSummary]
    duplicates: list[list[str]]
    unreadable: dict[str, str]
    warnings: list[str]

    @property
    def exit_code(self) -> int:
        return 1 if self.warnings else 0

    def to_json(self) -> dict[str, Any]:
        data = self.data
        return {
            "place": str(data.place), "format": data.format, "folder": str(data.folder), "name": data.name,
            "template": data.template, "split": data.split_note, "guesses": data.guesses, "hidden": data.hidden,
            "skipped": [{"path": path, "reason": reason} for path, reason in data.skipped],
            "classes": [asdict(one) for one in self.classes], "duplicates": self.duplicates,
            "unreadable": self.unreadable, "warnings": self.warnings, "exit_code": self.exit_code,
        }  # fmt: skip

    def to_text(self) -> str:
        data, classes = self.data, self.classes
        counts = ", ".join(f"{len(data.rows[part])} {part}" for part in PARTS)
        width = min(max(5, *(len(one.name) for one in classes)), 40)
        lines = [
            f"{data.place}: {data.format}",
            *(f"  guessed: {guess}" for guess in data.guesses),
            *([f"  split: {data.split_note}"] if data.split_note else []),
            f"{len(classes)} classes, {counts}; template {data.template!r}",
            f"  {'class':{width}}  half  train    val   test  prompt",
        ]
        for one in classes:
            lines.append(f"  {one.name:{width}}  {one.half:4}  {one.train:5}  {one.val:5}  {one.test:5}  {one.prompt}")
        if data.skipped or data.hidden:
            lines.append(f"Skipped: {len(data.skipped)} files and folders, and {data.hidden} hidden ones")
            lines += _shortened([f"  {path}: {reason}" for path, reason in data.skipped])
        if self.unreadable:
            lines.append(f"Unreadable: {len(self.unreadable)} images")
            lines += _shortened([f"  {path}: {reason}" for path, reason in self.unreadable.items()])
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines.append(f"Warnings: {len(self.warnings) or 'none'}")
        return "\n".join(lines)


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - LISTED
    return lines if more <= 0 else [*lines[:LISTED], f"  ... and {more} more (all with --json)"]


def inspect(place: str, shots: int = 16) -> Inspection:
    """Inspect custom data, or the folder of a data set in configs/datasets.

    Args:
        shots: number of training images per class that a run would use.

    Raises:
        UserError: the data cannot be used, e.g. because a class has no training images.
    """
    known = find_field_data(hub.local_path(place))
    if known:
        data, names = read_field_data(*known)
    else:
        data = read_custom_data(place)
        names = class_names(data.rows, data.place, "complete the data", distinct=False)
    counts = {part: Counter(label for _, label, _ in data.rows[part]) for part in PARTS}
    halves, prompts = _halves(len(names)), fill_template(data.template, names)
    classes = [
        ClassSummary(name, halves[label], prompts[label], *(counts[part][label] for part in PARTS))
        for label, name in enumerate(names)
    ]
    paths = list(dict.fromkeys(row[0] for part in PARTS for row in data.rows[part]))
    unreadable = unreadable_images(data.folder, paths)
    duplicates = byte_identical(data.folder, [path for path in paths if path not in unreadable])
    warnings = [*class_warnings(classes, shots), *duplicate_warnings(duplicates, data.rows)]
    if unreadable:
        warnings.append(
            f"{len(unreadable)} images cannot be read (see above): a run stops, or leaves them out with "
            "DATASET.SKIP_UNREADABLE True"
        )
    return Inspection(data, classes, duplicates, unreadable, warnings)


def _halves(classes: int) -> list[str]:
    if classes < MIN_FOR_HALVES:
        return ["-"] * classes
    items: list[Item] = [(str(label), label, str(label)) for label in range(classes)]
    base = {name for name, _, _ in subsample_classes(items, subsample="base")[0]}
    return ["base" if str(label) in base else "new" for label in range(classes)]
