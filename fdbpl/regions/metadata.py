"""What makes two banks the same bank, and how it is read from a manifest."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import get_origin

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record

SCHEMA = 1
DEFAULTS = {"precision": "fp32"}  # what a manifest leaves out


@dataclass(frozen=True)
class BankMetadata:
    """What must agree for two runs to share a bank.

    Attributes:
        dataset: folder of the data set below the data root.
        teacher, teacher_sha256: name and weights.
        size: side of the teacher's input in pixels; regions are resized to it, bicubic with antialiasing.
        mean, std: normalisation of the teacher's input.
        scale, ratio, flip: crop distribution.
        seed: of the regions' random draw.
        content: "embedding" (the teacher's unit image embedding), or "topk:K" (its K largest class probabilities).
        classes: for "topk:K": hash of the prompt list that the probabilities are over.
        precision: of the teacher's towers: fp32, fp16 or bf16.
    """

    dataset: str
    teacher: str
    teacher_sha256: str
    logit_scale: float
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: float
    seed: int
    content: str = "embedding"
    classes: str = ""
    interpolation: str = "bicubic, antialias, EXIF orientation ignored"
    schema: int = SCHEMA
    precision: str = DEFAULTS["precision"]

    def plain(self) -> dict:
        """As it stands in the manifest."""
        values = json.loads(json.dumps(asdict(self)))
        return {key: value for key, value in values.items() if DEFAULTS.get(key) != value}

    def folder_name(self) -> str:
        """Readable, with a hash of everything, e.g. `demo-teacher_seed1_embedding_1f0c9a2b`."""
        readable = re.sub(r"[^\w.-]+", "-", f"{self.teacher}_seed{self.seed}_{self.content}").strip("-")
        return f"{readable[-150:]}_{digest(self.plain())[:8]}"  # file systems allow 255; a run's path may be longer


def digest(value) -> str:
    """Hex SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def first_mismatch(stored: dict, fields: dict) -> str | None:
    """The first of some fields that a manifest's identity has another value of; None: none of them."""
    stored = {**DEFAULTS, **stored}
    return next((key for key, value in fields.items() if stored.get(key) != value), None)


def read_identity(folder: Path) -> dict:
    """What the manifest of the bank in `folder` says that it is: the fields of a `BankMetadata`.

    Raises:
        UserError: no manifest, a broken one, or one of another schema.
    """
    file, what, remedy = folder / "manifest.json", "the manifest of a region bank", "put the bank's own there"
    identity = read_record(file, what, remedy, identity=dict)["identity"]
    if identity.get("schema") != SCHEMA:
        raise UserError(
            f"expected a region bank of schema {SCHEMA} in {folder}, found schema {identity.get('schema')!r:.60}; "
            "move it away and run scripts/generate_regions.sh again"
        )
    kinds = {entry.name: KINDS[get_origin(entry.type) or entry.type] for entry in fields(BankMetadata)}
    said = {**DEFAULTS, **identity}
    odd = [key for key, kind in kinds.items() if not _is(said.get(key), kind)] + [*identity.keys() - kinds.keys()]
    if odd:
        raise UserError(
            f"expected {what} at {file} to give each of {', '.join(kinds)}, found {odd[0]} "
            f"{identity.get(odd[0])!r:.60}; {remedy}"
        )
    return identity


KINDS: dict[object, type | UnionType] = {str: str, int: int, float: int | float, tuple: list}  # in JSON


def _is(value: object, kind: type | UnionType) -> bool:
    """Whether a JSON value is of a kind; lists are those of numbers."""
    numbers = not isinstance(value, list) or all(isinstance(entry, int | float) for entry in value)
    return isinstance(value, kind) and not isinstance(value, bool) and numbers
