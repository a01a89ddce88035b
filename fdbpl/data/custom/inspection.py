"""Inspection of a data set without training: classes, splits, prompts, and what may spoil a result."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from fdbpl.data.classes import class_names, subsample_classes
from fdbpl.data.custom import hub
from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.data.custom.listing import SkippedFile
from fdbpl.data.custom.split_names import PARTS
from fdbpl.data.prepare.check import CONFIGS, build_config, dataset_class
from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import SplitDataset
from fdbpl.errors import UserError, enumerated
from fdbpl.io.image_check import unreadable_images
from fdbpl.templates import fill_template

MIN_FOR_HALVES = 4  # classes
LISTED = 20  # skipped files and unreadable images in the text; JSON lists all


@dataclass(frozen=True)
class ClassSummary:
    """A class: its half in the base-to-new protocol, its prompt, and its numbers of images."""

    name: str
    half: str
    prompt: str
    train: int
    val: int
    test: int


class UncheckedItem(NamedTuple):
    """Fields of Dassl's items, without its check that the file exists."""

    impath: str
    label: int
    classname: str


@dataclass
class Inspection:
    """Result of an inspection.

    Attributes:
        duplicates: groups of byte-identical images, of which some are in several splits or classes.
        unreadable: {path: reason}.
        warnings: what may spoil a result.
    """

    place: str
    format: str
    folder: str
    name: str
    template: str
    guesses: list[str]
    skipped: list[SkippedFile]
    hidden: int
    classes: list[ClassSummary] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 1 if self.warnings else 0

    def to_json(self) -> dict[str, Any]:
        content = asdict(self)
        content["skipped"] = [{"path": path, "reason": reason} for path, reason in self.skipped]
        return {**content, "exit_code": self.exit_code}

    def to_text(self) -> str:
        counts = ", ".join(f"{sum(getattr(one, part) for one in self.classes)} {part}" for part in PARTS)
        width = min(max(5, *(len(one.name) for one in self.classes)), 40)
        lines = [
            f"{self.place}: {self.format}",
            *(f"  guessed: {guess}" for guess in self.guesses),
            f"{len(self.classes)} classes, {counts}; template {self.template!r}",
            f"  {'class':{width}}  half  train    val   test  prompt",
        ]
        for one in self.classes:
            lines.append(f"  {one.name:{width}}  {one.half:4}  {one.train:5}  {one.val:5}  {one.test:5}  {one.prompt}")
        if self.skipped or self.hidden:
            lines.append(f"Skipped: {len(self.skipped)} files and folders, and {self.hidden} hidden ones")
            lines += _shortened([f"  {path}: {reason}" for path, reason in self.skipped])
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
    known = find_known(hub.local_path(place))
    if known:
        inspection, rows, names = _read_known(*known)
    else:
        inspection, rows = _read_custom(place)
        names = class_names(rows, Path(inspection.place), "complete the data", distinct=False)
    counts = {part: Counter(label for _, label, _ in rows[part]) for part in PARTS}
    halves = _halves(len(names))
    prompts = fill_template(inspection.template, names)
    inspection.classes = [
        ClassSummary(name, halves[label], prompts[label], *(counts[part][label] for part in PARTS))
        for label, name in enumerate(names)
    ]
    paths = list(dict.fromkeys(row[0] for part in PARTS for row in rows[part]))
    inspection.unreadable = unreadable_images(inspection.folder, paths)
    groups = byte_identical(inspection.folder, [path for path in paths if path not in inspection.unreadable])
    inspection.duplicates = groups
    inspection.warnings += [
        *_class_warnings(inspection, shots),
        *_duplicate_warnings(groups, rows),
    ]
    if inspection.unreadable:
        inspection.warnings.append(
            f"{len(inspection.unreadable)} images cannot be read (see above): a run stops, or leaves them out with "
            "DATASET.SKIP_UNREADABLE True"
        )
    return inspection


def _halves(classes: int) -> list[str]:
    if classes < MIN_FOR_HALVES:
        return ["-"] * classes
    items: list[Item] = [(str(label), label, str(label)) for label in range(classes)]
    base = {name for name, _, _ in subsample_classes(items, subsample="base")[0]}
    return ["base" if str(label) in base else "new" for label in range(classes)]


def _class_warnings(inspection: Inspection, shots: int) -> list[str]:
    classes = inspection.classes
    found = []
    few = [f"{one.name} {one.train}" for one in classes if one.train < shots]
    if few:
        found.append(f"{len(few)} classes have fewer than {shots} training images ({enumerated(few, 5)})")
    untested = [one.name for one in classes if not one.test]
    if untested:
        found.append(f"{len(untested)} classes have no test images ({enumerated(untested, 5)})")
    if len(classes) < MIN_FOR_HALVES:
        found.append(f"{len(classes)} classes are too few for base-to-new, which needs {MIN_FOR_HALVES}")
    numbers = [one.name for one in classes if one.name.replace(" ", "").isdecimal()]
    if numbers:
        found.append(
            f"{len(numbers)} class names are numbers ({enumerated(numbers, 5)}), which mean nothing to CLIP: give "
            "names with the key classes of dataset.yaml"
        )
    return found


def byte_identical(folder: str | os.PathLike, paths: list[str]) -> list[list[str]]:
    """Groups of images with the same bytes; only files of equal sizes are read."""
    by_size: dict[int, list[str]] = {}
    for path in paths:
        by_size.setdefault(os.path.getsize(os.path.join(folder, path)), []).append(path)
    candidates = [path for same in by_size.values() if len(same) > 1 for path in same]

    def digest(path: str) -> bytes:
        with open(os.path.join(folder, path), "rb") as file:
            return hashlib.sha256(file.read()).digest()

    groups: dict[bytes, list[str]] = {}
    with ThreadPoolExecutor(8) as pool:
        for path, found in zip(candidates, pool.map(digest, candidates), strict=True):
            groups.setdefault(found, []).append(path)
    return [same for same in groups.values() if len(same) > 1]


def _duplicate_warnings(groups: list[list[str]], rows: dict[str, list[Item]]) -> list[str]:
    split_of = {path: part for part, items in rows.items() for path, _, _ in items}
    class_of = {path: name for items in rows.values() for path, _, name in items}
    found = []
    kinds = (
        (split_of, "in several splits, so that a test may use training images"),
        (class_of, "in several classes"),
    )
    for value_of, what in kinds:
        mixed = [same for same in groups if len({value_of[path] for path in same}) > 1]
        if mixed:
            example = " = ".join(f"{path} ({value_of[path]})" for path in mixed[0][:3])
            found.append(f"byte-identical images {what}: {len(mixed)} groups, e.g. {example}")
    return found


def _read_custom(place: str) -> tuple[Inspection, dict[str, list[Item]]]:
    data = read_custom_data(place)
    inspection = Inspection(
        str(data.place),
        data.format,
        str(data.folder),
        data.name,
        data.template,
        data.guesses,
        data.skipped,
        data.hidden,
    )
    return inspection, data.rows


def find_known(path: Path) -> tuple[str, Path] | None:
    """The name in configs/datasets and the data root of a data set's folder; None if `path` is another folder.

    Raises:
        UserError: `path` is the folder above several data sets.
    """
    below = []
    for name, kind in _known_kinds().items():
        mark = kind.split_file or kind.image_dir
        if Path(*path.parts[-len(Path(kind.dataset_dir).parts) :]) == Path(kind.dataset_dir) and (path / mark).exists():
            return name, Path(*path.parts[: -len(Path(kind.dataset_dir).parts)])
        if (path / kind.dataset_dir / mark).exists():
            below.append(kind.dataset_dir)
    if below:
        raise UserError(f"{path} holds the data sets {enumerated(sorted(set(below)))}; give the folder of one of them")
    return None


def _known_kinds() -> dict[str, type[SplitDataset]]:
    """{name in configs/datasets: class} of the data sets that have their own folder."""
    kinds = {}
    for file in sorted(CONFIGS.glob("*.yaml")):
        kind = dataset_class(file.stem)
        if kind.dataset_dir and not kind.synthetic and (kind.split_file or kind.image_dir):
            kinds[file.stem] = kind
    return kinds


def _read_known(name: str, root: Path) -> tuple[Inspection, dict[str, list[Item]], list[str]]:
    """Build a data set of configs/datasets with all classes and images, without decoding them."""
    kind = dataset_class(name)
    methods = {
        "check_images": lambda self, paths: None,
        "find_unreadable": lambda self, paths, cfg: None,
        "images_of": lambda self, rows: [UncheckedItem(os.path.join(self.images, row[0]), *row[1:]) for row in rows],
    }
    built = type(kind.__name__, (kind,), methods)(build_config(name, root))
    images = str(built.images)
    parts = {"train": [] if kind.test_only else built.train_x, "val": built.val, "test": built.test}
    rows = {
        part: [(os.path.relpath(item.impath, images), item.label, item.classname) for item in items or []]
        for part, items in parts.items()
    }
    inspection = Inspection(str(built.folder), f"data set {name}", images, name, built.template, [], [], 0)
    return inspection, rows, built.all_classnames
