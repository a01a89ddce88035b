"""The region bank: one folder of what a teacher says of random regions, shared by every run that reads them.

    <bank>/manifest.json                      what the bank is (BankMetadata) and what made it
    <bank>/regions-<hash>.safetensors         boxes, flips, teacher information of some images
    <bank>/features/<student>/...             a student's image features of the same regions, a file a shard
    <bank>/text/<hash>.safetensors            the teacher's text features of a list of prompts

Every file appears whole or not at all and is named by what it holds, so that interrupted, repeated and simultaneous
generation ends in the same bytes.
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
from fdbpl.io.atomic import clean_partial_files, write_json, write_tensors
from fdbpl.regions.metadata import DEFAULTS, BankMetadata, digest, first_mismatch, read_identity
from fdbpl.regions.shard import TENSORS, TOP_TENSORS, Shard, content_checksum, parse_shard_header
from fdbpl.regions.shard_reader import REMEDY, Header, read_header


def features_folder(student: str, sha256: str) -> str:
    return re.sub(r"[^\w.-]+", "-", student).strip("-") + f"-{sha256[:8]}"


class RegionBank:
    """A bank on disk."""

    def __init__(self, folder: Path, identity: dict):
        self.folder, self.identity = folder, identity

    @classmethod
    def open(cls, folder: str | Path, expect: BankMetadata | None = None) -> "RegionBank":
        """The bank in `folder`.

        Raises:
            UserError: no bank there, or not the expected one; the first disagreement is named.
        """
        folder = Path(folder)
        identity = read_identity(folder)
        if expect is not None:
            wanted = {**DEFAULTS, **expect.plain()}
            key = first_mismatch(identity, wanted)
            if key is not None:
                found = {**DEFAULTS, **identity}.get(key)
                raise UserError(
                    f"expected a region bank with {key} {quoted(wanted[key])} in {folder}, found {quoted(found)}; "
                    "choose another REGIONS.ROOT or delete that bank"
                )
        return cls(folder, identity)

    @classmethod
    def create(cls, folder: str | Path, identity: BankMetadata, versions: dict) -> "RegionBank":
        """Open the bank in `folder`, making its manifest where there is none."""
        folder = Path(folder)
        if not (folder / "manifest.json").is_file():
            write_json(folder / "manifest.json", {"identity": identity.plain(), "made_with": versions})
        return cls.open(folder, identity)

    def clean_partial_files(self) -> None:
        """Delete what interrupted writes left behind."""
        clean_partial_files(self.folder)

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
            names = TENSORS if self.identity["content"] == "embedding" else TOP_TENSORS
            shard = parse_shard_header(file, header, names)
            self.refuse_strange(file, header, {"bank": self._digest})
            named = self.shard_name(shard.images, shard.first, shard.count)
            if named != file.name:
                raise UserError(
                    f"expected the regions that its name stands for in {file}, found those of {named}; rename it so, "
                    "or delete it and run scripts/generate_regions.sh again"
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

    def refuse_strange(self, file: Path, header: Header, expected: dict[str, str]) -> None:
        """Refuse a file that says of itself that it belongs elsewhere; older ones do not say it.

        Raises:
            UserError: the first disagreement is named.
        """
        for key, value in expected.items():
            found = header.shard.get(key, value)
            if found != value:
                raise UserError(
                    f"expected a file of this bank in {file}, found one of another {key} ({found!s:.40}, not "
                    f"{value:.40}); put the bank's own files and manifest there, or {REMEDY}"
                )

    def features_file(self, shard: Shard, student: tuple[str, str]) -> Path:
        return self.folder / "features" / features_folder(*student) / shard.file.name

    def write_features(self, shard: Shard, student: tuple[str, str], features: Tensor) -> None:
        """Keep a student's features of a shard's regions, float16 [R, D]; `shard.decoder` decoded what they are of."""
        tensors = {"features": features}
        header = {**self._features_of(shard, student), "decoder": shard.decoder, "payload": content_checksum(tensors)}
        write_tensors(self.features_file(shard, student), tensors, {"shard": json.dumps(header)})

    def read_features_header(self, shard: Shard, student: tuple[str, str]) -> Header:
        """Raises a UserError where the file is broken or belongs to other regions or another student."""
        file = self.features_file(shard, student)
        header = read_header(file)
        rows = {name: shape[0] if shape else 0 for name, (_, shape, _) in header.tensors.items()}
        if rows != {"features": shard.tensors["boxes"][1][0]}:
            raise UserError(f"expected features of the regions of {shard.file.name} in {file}, found others; {REMEDY}")
        self.refuse_strange(file, header, self._features_of(shard, student))
        return header

    def _features_of(self, shard: Shard, student: tuple[str, str]) -> dict[str, str]:
        return {"bank": self._digest, "student": student[1], "shard": shard.file.name}

    # text features ----------------------------------------------------------------------------------------------

    def text_file(self, prompts: list[str]) -> Path:
        return self.folder / "text" / f"{digest(prompts)[:16]}.safetensors"

    def prompt_lists(self) -> list[list[str]]:
        """Every prompt list whose text features the bank holds, the longest first."""
        return sorted((prompts for prompts, _ in self._texts()), key=len, reverse=True)

    def text_features(self, prompts: list[str]) -> Tensor:
        """The teacher's unit text features of `prompts`: float32 [C, D].

        Raises:
            UserError: a prompt is in none of the bank's lists.
        """
        known: dict[str, Tensor] = {}
        for names, features in self._texts():
            known.update(zip(names, features, strict=True))
        missing = [prompt for prompt in prompts if prompt not in known]
        if missing:
            raise UserError(
                f"expected the teacher's text features of {len(prompts)} prompts in {self.folder}, found {len(missing)}"
                f" missing ({quoted(missing[0])} ...); add them: bash scripts/generate_regions.sh, same arguments"
            )
        return torch.stack([known[prompt] for prompt in prompts])

    def _texts(self) -> Iterator[tuple[list[str], Tensor]]:
        for file in sorted((self.folder / "text").glob("*.safetensors")):
            yield self.read_text(file)

    def read_text(self, file: Path) -> tuple[list[str], Tensor]:
        """A list of prompts and its features, float32 [C, D].

        Raises:
            UserError: the file is broken, or does not belong here.
        """
        try:
            with safe_open(file, "pt") as content:
                said, features = json.loads(content.metadata()["prompts"]), content.get_tensor("features").float()
            said = said if isinstance(said, dict) else {"prompts": said}  # as older banks have it
            prompts = said["prompts"]
            if self.text_file(prompts) != file or features.shape[0] != len(prompts):
                raise ValueError("it holds other prompts than its name stands for")
            if len(said) not in (1, 3) or said.get("teacher", self._teacher) != self._teacher:
                raise ValueError("it is of another teacher, or its description is broken")
            if not features.isfinite().all():
                raise ValueError("it holds numbers that are none")
            if said.get("payload") not in (None, text_digest(features)):
                raise ValueError("it holds other features than those that were written")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise UserError(
                f"expected the teacher's text features in {file}, found a broken file ({error}); {REMEDY}"
            ) from error
        return prompts, features

    @cached_property
    def _digest(self) -> str:
        return digest(self.identity)

    @property
    def _teacher(self) -> str:
        return self.identity["teacher_sha256"]

    def write_text(self, prompts: list[str], features: Tensor) -> None:
        """Keep the features of a list of prompts, float32 [C, D]."""
        said = {"prompts": prompts, "payload": text_digest(features), "teacher": self._teacher}
        # in one value: the order of several would not always be the same, nor the bytes of the file
        write_tensors(self.text_file(prompts), {"features": features}, {"prompts": json.dumps(said)})


def text_digest(features: Tensor) -> str:
    """Checksum of a list of text features, [C, D]."""
    return content_checksum({"features": features.detach().float().cpu()})
