"""The region bank: one folder of what a teacher says of random regions, shared by every run that reads them.

    <bank>/manifest.json                      what the bank is (BankIdentity) and what made it
    <bank>/regions-<hash>.safetensors         boxes, flips, teacher information of some images
    <bank>/features/<student>/...             a student's image features of the same regions, a file a shard
    <bank>/text/<hash>.safetensors            the teacher's text features of a list of prompts

Every file appears whole or not at all and is named by what it holds, so that interrupted, repeated and simultaneous
generation ends in the same bytes. Reading maps files into memory.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from fdbpl.atomic import read_json, remove_leftovers, write_json, write_tensors
from fdbpl.errors import UserError
from fdbpl.regions.rows import REMEDY, Layout, read_header

SCHEMA = 1


@dataclass(frozen=True)
class BankIdentity:
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

    def plain(self) -> dict:
        return json.loads(json.dumps(asdict(self)))

    def folder_name(self) -> str:
        """Readable, with a hash of everything, e.g. `demo-teacher_seed1_embedding_1f0c9a2b`."""
        readable = re.sub(r"[^\w.-]+", "-", f"{self.teacher}_seed{self.seed}_{self.content}").strip("-")
        return f"{readable[-150:]}_{digest(self.plain())[:8]}"  # file systems allow 255; a run's path may be longer


@dataclass(frozen=True)
class Shard:
    """One file of regions: its images in order, each with `count` regions from number `first` on."""

    file: Path
    images: list[str]
    sha256: list[str]
    sizes: list[tuple[int, int]]
    first: int
    count: int
    tensors: Layout = field(default_factory=dict)  # where they lie in the file, once it is written

    @property
    def order(self) -> tuple[int, str]:
        """By first region number, then by name."""
        return self.first, self.file.name


def digest(value) -> str:
    """Hex SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def features_folder(student: str, sha256: str) -> str:
    return re.sub(r"[^\w.-]+", "-", student).strip("-") + f"-{sha256[:8]}"


class RegionBank:
    """A bank on disk."""

    def __init__(self, folder: Path, identity: dict):
        self.folder, self.identity = folder, identity

    @classmethod
    def open(cls, folder: str | Path, expect: BankIdentity | None = None) -> "RegionBank":
        """The bank in `folder`.

        Raises:
            UserError: no bank there, or not the expected one; the first disagreement is named.
        """
        folder = Path(folder)
        manifest = read_json(folder / "manifest.json", "the manifest of a region bank")
        identity = manifest.get("identity") if isinstance(manifest, dict) else None
        if not isinstance(identity, dict) or identity.get("schema") != SCHEMA:
            found = identity.get("schema") if isinstance(identity, dict) else None
            raise UserError(
                f"expected a region bank of schema {SCHEMA} in {folder}, found schema {found}; "
                "move it away and run scripts/generate_regions.sh again"
            )
        if expect is not None:
            for key, value in expect.plain().items():
                if identity.get(key) != value:
                    raise UserError(
                        f"expected a region bank with {key} {value!r} in {folder}, found {identity.get(key)!r}; "
                        "choose another REGIONS.ROOT or delete that bank"
                    )
        return cls(folder, identity)

    @classmethod
    def create(cls, folder: str | Path, identity: BankIdentity, versions: dict) -> "RegionBank":
        """Open the bank in `folder`, making its manifest where there is none."""
        folder = Path(folder)
        if not (folder / "manifest.json").is_file():
            write_json(folder / "manifest.json", {"identity": identity.plain(), "made_with": versions})
        return cls.open(folder, identity)

    def remove_leftovers(self) -> None:
        """Delete what interrupted writes left behind."""
        remove_leftovers(self.folder)

    # shards of regions ------------------------------------------------------------------------------------------

    def shards(self) -> list[Shard]:
        """All shards, sorted by first region number, then by name."""
        return sorted(self.each_shard(), key=lambda shard: shard.order)

    def each_shard(self) -> Iterator[Shard]:
        """All shards, one at a time, sorted by name.

        Raises:
            UserError: a file is broken.
        """
        for file in sorted(self.folder.glob("regions-*.safetensors")):
            header = read_header(file)
            try:
                images, sha256, sizes, first, count = (
                    header.shard[key] for key in ("images", "sha256", "sizes", "first", "count")
                )
            except KeyError as error:
                raise UserError(
                    f"expected a shard of regions in {file}, found a broken file (no {error}); {REMEDY}"
                ) from error
            yield Shard(file, images, sha256, [tuple(hw) for hw in sizes], first, count, header.tensors)

    def shard_name(self, images: list[str], first: int, count: int) -> str:
        return f"regions-{digest([images, first, count])[:16]}.safetensors"

    def write_shard(self, shard: Shard, tensors: dict[str, Tensor]) -> None:
        header = {
            "images": shard.images,
            "sha256": shard.sha256,
            "sizes": shard.sizes,
            "first": shard.first,
            "count": shard.count,
            "payload": payload_digest(tensors),
        }
        write_tensors(shard.file, tensors, {"shard": json.dumps(header)})

    def features_file(self, shard: Shard, student: tuple[str, str]) -> Path:
        return self.folder / "features" / features_folder(*student) / shard.file.name

    # text features ----------------------------------------------------------------------------------------------

    def text_file(self, prompts: list[str]) -> Path:
        return self.folder / "text" / f"{digest(prompts)[:16]}.safetensors"

    def prompt_lists(self) -> list[list[str]]:
        """Every prompt list whose text features the bank holds, the longest first."""
        lists = []
        for file in sorted((self.folder / "text").glob("*.safetensors")):
            with safe_open(file, "pt") as content:
                lists.append(json.loads(content.metadata()["prompts"]))
        return sorted(lists, key=len, reverse=True)

    def text_features(self, prompts: list[str]) -> Tensor:
        """The teacher's unit text features of `prompts`: float32 [C, D].

        Raises:
            UserError: a prompt is in none of the bank's lists.
        """
        known: dict[str, Tensor] = {}
        for file in sorted((self.folder / "text").glob("*.safetensors")):
            with safe_open(file, "pt") as content:
                names = json.loads(content.metadata()["prompts"])
                known.update(zip(names, content.get_tensor("features").float(), strict=True))
        missing = [prompt for prompt in prompts if prompt not in known]
        if missing:
            raise UserError(
                f"expected the teacher's text features of {len(prompts)} prompts in {self.folder}, found {len(missing)}"
                f" missing ({missing[0]!r} ...); add them: bash scripts/generate_regions.sh with the same arguments"
            )
        return torch.stack([known[prompt] for prompt in prompts])


def payload_digest(tensors: dict[str, Tensor]) -> str:
    """Hex SHA-256 over names, shapes and values."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name].contiguous()
        sha.update(f"{name}{tuple(array.shape)}{array.dtype}".encode())
        sha.update(np.ascontiguousarray(array.numpy()).tobytes())
    return sha.hexdigest()
