"""Metadata of a region bank: all settings that runs must agree on to share it."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import get_origin

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record
from fdbpl.io.image_reading import DISPLAYED, STORED, Decoding

SCHEMA = 1
RESIZE = "bicubic, antialias"
DECODINGS = [STORED, DISPLAYED, Decoding(exif_orientation=True), Decoding(white_background=True)]
DEFAULTS = {"precision": "fp32"}  # values that a manifest leaves out


@dataclass(frozen=True)
class BankMetadata:
    """Settings that two runs must agree on to share a bank.

    Attributes:
        dataset: folder of the data set below the data root.
        teacher, teacher_sha256: name and hash of the teacher's weights.
        logit_scale: the teacher's factor on the cosine (already exponentiated).
        size: side of the teacher's input in pixels; regions are resized to it, bicubic with antialiasing.
        mean, std: normalisation of the teacher's input.
        scale, ratio, flip: crop distribution (`fdbpl.crops.sample_crops`).
        seed: seed of the sampled regions.
        content: "embedding" (the teacher's unit image embedding), or "topk:K" (its K largest class probabilities).
        classes: with "topk:K", hash of the prompt list that the probabilities refer to.
        interpolation: resize of the regions, and how the images are decoded (`interpolation_of`).
        precision: of the teacher's encoders: fp32, fp16 or bf16.
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
    interpolation: str = f"{RESIZE}, {STORED}"
    schema: int = SCHEMA
    precision: str = DEFAULTS["precision"]

    @property
    def decoding(self) -> Decoding:
        """Decoding of the images.

        Raises:
            UserError: this version does not support the decoding.
        """
        for decoding in DECODINGS:
            if self.interpolation == interpolation_of(decoding):
                return decoding
        raise UserError(
            f"The images of the region bank were read with {self.interpolation!r}, which this version does not "
            "support. Generate another bank."
        )

    def plain(self) -> dict:
        """Return the JSON object that the manifest holds."""
        values = json.loads(json.dumps(asdict(self)))
        return {key: value for key, value in values.items() if DEFAULTS.get(key) != value}

    def folder_name(self) -> str:
        """Return a readable name that ends in a hash of all fields, e.g. `demo-teacher_seed1_embedding_1f0c9a2b`."""
        readable = re.sub(r"[^\w.-]+", "-", f"{self.teacher}_seed{self.seed}_{self.content}").strip("-")
        return f"{readable[-150:]}_{digest(self.plain())[:8]}"  # file systems allow 255; a run's path may be longer


def interpolation_of(decoding: Decoding) -> str:
    """Return the entry `interpolation` of a bank for a decoding of images."""
    return f"{RESIZE}, {decoding}"


def digest(value) -> str:
    """Return the hex SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def first_mismatch(stored: dict, expected: dict) -> str | None:
    """Return the first key of `expected` whose value in a manifest differs; None if all agree."""
    stored = {**DEFAULTS, **stored}
    return next((key for key, value in expected.items() if stored.get(key) != value), None)


def read_identity(folder: Path) -> dict:
    """Read the metadata of the bank in `folder` from its manifest: the fields of a `BankMetadata`.

    Raises:
        UserError: the manifest is missing, broken or of another schema.
    """
    file, what = folder / "manifest.json", "the manifest of a region bank"
    remedy = "Restore the bank's own manifest"
    identity = read_record(file, what, remedy, identity=dict)["identity"]
    if identity.get("schema") != SCHEMA:
        raise UserError(
            f"The region bank in {folder} has schema {identity.get('schema')!r:.60}, but this version reads schema "
            f"{SCHEMA}. Move the bank away and run scripts/generate_regions.sh again."
        )
    types = {entry.name: JSON_TYPES[get_origin(entry.type) or entry.type] for entry in fields(BankMetadata)}
    stored = {**DEFAULTS, **identity}
    invalid = [key for key, kind in types.items() if not _is_of_type(stored.get(key), kind)]
    invalid += [*identity.keys() - types.keys()]
    if invalid:
        raise UserError(
            f"Invalid value in {what}, {file}: {invalid[0]} {identity.get(invalid[0])!r:.60}. "
            f"The manifest holds {', '.join(types)}. {remedy}."
        )
    return identity


JSON_TYPES: dict[object, type | UnionType] = {str: str, int: int, float: int | float, tuple: list}


def _is_of_type(value: object, kind: type | UnionType) -> bool:
    """Return whether a JSON value has a type; lists must hold numbers only."""
    numbers = not isinstance(value, list) or all(isinstance(entry, int | float) for entry in value)
    return isinstance(value, kind) and not isinstance(value, bool) and numbers
