"""The region bank: one folder of a teacher's outputs for random regions, shared by all runs that read it.

    <bank>/manifest.json                      metadata (BankMetadata) and package versions
    <bank>/regions-<hash>.safetensors         boxes, flips and teacher outputs of some images (a shard)
    <bank>/features/<student>/...             a student's image features of the same regions, one file for each shard
    <bank>/text/<hash>.safetensors            the teacher's text features of a list of prompts

Files are written atomically and named after their content, so that an interrupted and repeated generation produces the
same bytes as an uninterrupted one.
"""

import json
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import write_json
from fdbpl.io.tensor_files import write_tensors
from fdbpl.regions.metadata import DEFAULTS, BankMetadata, digest, first_mismatch, read_identity
from fdbpl.regions.shard import TENSORS, TOP_K_TENSORS, Shard, content_checksum, parse_shard_header
from fdbpl.regions.shard_reader import REMEDY, Header, read_header


def features_folder(student: str, sha256: str) -> str:
    """Name of the folder of a student's features."""
    return re.sub(r"[^\w.-]+", "-", student).strip("-") + f"-{sha256[:8]}"


class RegionBank:
    """A bank on disk."""

    def __init__(self, folder: Path, identity: dict):
        self.folder, self.identity = folder, identity

    @classmethod
    def open(cls, folder: str | Path, expect: BankMetadata | None = None) -> "RegionBank":
        """Open the bank in `folder`.

        Raises:
            UserError: there is no bank, or its metadata differ from `expect`; the message names the first mismatch.
        """
        folder = Path(folder)
        identity = read_identity(folder)
        if expect is not None:
            expected = {**DEFAULTS, **expect.plain()}
            key = first_mismatch(identity, expected)
            if key is not None:
                stored = {**DEFAULTS, **identity}.get(key)
                raise UserError(
                    f"The region bank in {folder} has {key} {quoted(stored)}, but this run needs {key} "
                    f"{quoted(expected[key])}. Choose another REGIONS.ROOT or delete that bank."
                )
        return cls(folder, identity)

    @classmethod
    def create(cls, folder: str | Path, identity: BankMetadata, versions: dict) -> "RegionBank":
        """Open the bank in `folder`; write its manifest first if there is none."""
        folder = Path(folder)
        if not (folder / "manifest.json").is_file():
            write_json(folder / "manifest.json", {"identity": identity.plain(), "made_with": versions})
        return cls.open(folder, identity)

    # shards of regions ------------------------------------------------------------------------------------------

    def shards(self) -> list[Shard]:
        """Return all shards, sorted by first region number, then by name."""
        return sorted(self.each_shard(), key=lambda shard: shard.order)

    def each_shard(self) -> Iterator[Shard]:
        """Iterate over all shards, sorted by name.

        Raises:
            UserError: a file is broken or belongs elsewhere.
        """
        for file in sorted(self.folder.glob("regions-*.safetensors")):
            header = read_header(file)
            names = TENSORS if self.identity["content"] == "embedding" else TOP_K_TENSORS
            shard = parse_shard_header(file, header, names)
            self.check_header(file, header, {"bank": self._digest})
            name = self.shard_name(shard.images, shard.first, shard.count)
            if name != file.name:
                raise UserError(
                    f"{file} holds the regions of {name}. Rename it, or delete it and run scripts/generate_regions.sh "
                    "again."
                )
            yield shard

    def shard_name(self, images: list[str], first: int, count: int) -> str:
        return f"regions-{digest([images, first, count])[:16]}.safetensors"

    def write_shard(self, shard: Shard, tensors: dict[str, Tensor]) -> None:
        header = {
            "images": shard.images,
            "sha256": shard.sha256,
            "sizes": shard.sizes,
            "first": shard.first,
            "count": shard.count,
            "decoder": shard.decoder,
            "payload": content_checksum(tensors),
            "bank": self._digest,
        }
        write_tensors(shard.file, tensors, {"shard": json.dumps(header)})

    def check_header(self, file: Path, header: Header, expected: dict[str, str]) -> None:
        """Check that a file belongs to this bank; headers of older files lack these keys.

        Raises:
            UserError: names the first mismatch.
        """
        for key, value in expected.items():
            stored = header.shard.get(key, value)
            if stored != value:
                raise UserError(
                    f"{file} belongs to another {key} ({stored!s:.40} instead of {value:.40}). Restore the bank's own "
                    "files and manifest, or delete that file and run scripts/generate_regions.sh again."
                )

    # student features -------------------------------------------------------------------------------------------

    def features_file(self, shard: Shard, student: tuple[str, str]) -> Path:
        """Return the file of the features of a student, (name, sha256), of a shard's regions."""
        return self.folder / "features" / features_folder(*student) / shard.file.name

    def write_features(self, shard: Shard, student: tuple[str, str], features: Tensor) -> None:
        """Write a student's features of a shard's regions, float16 [R, D], with the decoder of `shard`."""
        tensors = {"features": features}
        header = {**self._features_of(shard, student), "decoder": shard.decoder, "payload": content_checksum(tensors)}
        write_tensors(self.features_file(shard, student), tensors, {"shard": json.dumps(header)})

    def read_features_header(self, shard: Shard, student: tuple[str, str]) -> Header:
        """Read the header of a student's features of a shard's regions.

        Raises:
            UserError: the file is broken or belongs to other regions, another bank or another student.
        """
        file = self.features_file(shard, student)
        header = read_header(file)
        rows = {name: shape[0] if shape else 0 for name, (_, shape, _) in header.tensors.items()}
        if rows != {"features": shard.tensors["boxes"][1][0]}:
            raise UserError(f"{file} does not hold the features of the regions of {shard.file.name}. {REMEDY}")
        self.check_header(file, header, self._features_of(shard, student))
        return header

    def _features_of(self, shard: Shard, student: tuple[str, str]) -> dict[str, str]:
        return {"bank": self._digest, "student": student[1], "shard": shard.file.name}

    # text features ----------------------------------------------------------------------------------------------

    def text_file(self, prompts: list[str]) -> Path:
        """Return the file of the text features of a list of prompts."""
        return self.folder / "text" / f"{digest(prompts)[:16]}.safetensors"

    def prompt_lists(self) -> list[list[str]]:
        """Return all prompt lists whose text features the bank holds, the longest first."""
        return sorted((prompts for prompts, _ in self._texts()), key=len, reverse=True)

    def text_features(self, prompts: list[str]) -> Tensor:
        """Look up the teacher's unit text features of `prompts`: float32 [C, D].

        Raises:
            UserError: a prompt is in none of the bank's lists.
        """
        known: dict[str, Tensor] = {}
        for names, features in self._texts():
            known.update(zip(names, features, strict=True))
        missing = [prompt for prompt in prompts if prompt not in known]
        if missing:
            raise UserError(
                f"The region bank {self.folder} lacks the teacher's text features of {len(missing)} of {len(prompts)} "
                f"prompts ({quoted(missing[0])} ...). Add them: bash scripts/generate_regions.sh with the same "
                "arguments."
            )
        return torch.stack([known[prompt] for prompt in prompts])

    def _texts(self) -> Iterator[tuple[list[str], Tensor]]:
        for file in sorted((self.folder / "text").glob("*.safetensors")):
            yield self.read_text(file)

    def read_text(self, file: Path) -> tuple[list[str], Tensor]:
        """Read a list of prompts and its features, float32 [C, D].

        Raises:
            UserError: the file is broken or belongs elsewhere.
        """
        try:
            with safe_open(file, "pt") as content:
                header, features = json.loads(content.metadata()["prompts"]), content.get_tensor("features").float()
            header = header if isinstance(header, dict) else {"prompts": header}  # older banks
            prompts = header["prompts"]
            if self.text_file(prompts) != file or features.shape[0] != len(prompts):
                raise ValueError("its prompts do not match its name")
            if len(header) not in (1, 3) or header.get("teacher", self._teacher) != self._teacher:
                raise ValueError("it belongs to another teacher, or its header is broken")
            if not features.isfinite().all():
                raise ValueError("it contains NaN or Inf")
            if header.get("payload") not in (None, text_checksum(features)):
                raise ValueError("its checksum does not match")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"Broken file of text features: {file} ({error}). {REMEDY}") from error
        return prompts, features

    @cached_property
    def _digest(self) -> str:
        return digest(self.identity)

    @property
    def _teacher(self) -> str:
        return self.identity["teacher_sha256"]

    def write_text(self, prompts: list[str], features: Tensor) -> None:
        """Write the features of a list of prompts, float32 [C, D]."""
        header = {"prompts": prompts, "payload": text_checksum(features), "teacher": self._teacher}
        # one metadata entry: with several, their order and so the bytes of the file would vary
        write_tensors(self.text_file(prompts), {"features": features}, {"prompts": json.dumps(header)})


def text_checksum(features: Tensor) -> str:
    """Return the checksum of the features of a list of prompts, [C, D]."""
    return content_checksum({"features": features.detach().float().cpu()})
