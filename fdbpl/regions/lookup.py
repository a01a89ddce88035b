"""Lookup in a region bank: teacher logits, student features and boxes of region r of image i, for a batch at a time."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fdbpl.errors import UserError
from fdbpl.regions.bank import RegionBank, features_folder
from fdbpl.regions.metadata import digest
from fdbpl.regions.shard import Shard, is_intact
from fdbpl.regions.shard_reader import REMEDY, ShardReader

MAX_CHECKED_BYTES = 1 << 28  # smaller banks are compared with their checksums when opened, in less than a second


class RegionLookup:
    """A view of a bank for some images, with the teacher's logits over some prompts.

    Args:
        bank: folder of the bank.
        images: paths relative to the data root; `image_index` below refers to this list.
        per_image: regions of each image that the bank must hold.
        prompts: texts of the C classes; None if no logits are needed.
        student: (name, sha256) of the student whose features are looked up; None if none are needed.

    Raises:
        UserError: regions, features or prompts are missing; the message says how to add them.
    """

    def __init__(
        self,
        bank: str | Path,
        images: list[str],
        per_image: int,
        prompts: list[str] | None = None,
        student: tuple[str, str] | None = None,
    ):
        self.bank = RegionBank.open(bank)
        self.identity = self.bank.identity
        self.per_image = per_image
        self._shards = self._locate(images, per_image)
        _check_checksums([shard.file for shard in self._shards])
        self._tensors = ShardReader([shard.file for shard in self._shards], [shard.tensors for shard in self._shards])
        self._features = self._features_reader(student) if student else None
        self.prompts = list(prompts or [])
        self._classes = None if prompts is None else self._class_features(self.prompts)

    # lookup -----------------------------------------------------------------------------------------------------

    def embeddings(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Return the teacher's image embeddings: float32 [B, D], of unit length up to float16 rounding."""
        return self._gather(self._tensors, "embeddings", image_index, region).float()

    def teacher_logits(self, image_index: Tensor, region: Tensor, first: int | None = None) -> Tensor:
        """Return the teacher's logits over the `first` prompts, float32 [B, C]; log-probabilities for top-K banks."""
        if self._classes is None:
            raise UserError("RegionLookup needs the class prompts to compute logits.")
        if self.identity["content"] == "embedding":
            return self.identity["logit_scale"] * self.embeddings(image_index, region) @ self._classes[:first].T
        return self._recover_probabilities(image_index, region)[:, :first].log()

    def entropy(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Return the entropy of the teacher's distribution divided by ln C, float32 [B] in [0, 1]."""
        if self.identity["content"] == "embedding":
            log_p = self.teacher_logits(image_index, region).log_softmax(-1)
            return -(log_p.exp() * log_p).sum(-1) / np.log(max(log_p.shape[-1], 2))
        stored = self._gather(self._tensors, "entropy", image_index, region).float()
        return stored / np.log(max(len(self.prompts), 2))

    def student_features(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Return the student's image features: float32 [B, D], of unit length up to float16 rounding."""
        if self._features is None:
            raise UserError("RegionLookup needs a student (name, SHA-256) to look up its features.")
        return self._gather(self._features, "features", image_index, region).float()

    def boxes(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Return the boxes as fractions of the image, float32 [B, 4]: top, left, height, width."""
        return self._gather(self._tensors, "boxes", image_index, region)

    def areas(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Return the areas as shares of the image, float32 [B]."""
        return self.boxes(image_index, region)[:, 2:].prod(dim=-1)

    def flips(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Return bool [B], True for mirrored regions."""
        return self._gather(self._tensors, "flips", image_index, region)

    # index ------------------------------------------------------------------------------------------------------

    def _locate(self, images: list[str], per_image: int) -> list[Shard]:
        """Build the index of the regions; returns the shards that hold them.

        An image's regions are in one shard, or in several if the bank has grown: part k of image i begins with region
        number `_first[k, i]`, and region r of it is row `_row[k, i]` + r of shard number `_file[k, i]`; int32 [K, N].
        """
        position = {image: number for number, image in enumerate(images)}
        end = np.zeros(len(images), np.int32)  # regions found so far, from number 0 on
        parts = np.zeros(len(images), np.int32)  # number of shards of these regions
        self._first, self._file, self._row = (np.full((0, len(images)), per_image, np.int32) for _ in range(3))
        used: list[Shard] = []
        for shard, image, place in sorted(self._shards_with(position), key=lambda found: found[0].order):
            last = min(shard.first + shard.count, per_image)
            needed = (shard.first <= end[image]) & (end[image] < last)
            if not needed.any():
                continue
            image, place = image[needed], place[needed]
            part = parts[image]
            if part.max() == len(self._first):
                more = np.full((1, len(images)), per_image, np.int32)
                self._first, self._file, self._row = (
                    np.concatenate([table, more]) for table in (self._first, self._file, self._row)
                )
            self._first[part, image] = end[image]
            self._file[part, image] = len(used)
            self._row[part, image] = place * shard.count - shard.first
            parts[image] += 1
            end[image] = last
            used.append(shard)
        missing = end < per_image
        if missing.any():
            example = images[int(missing.argmax())]
            raise UserError(
                f"The region bank {self.bank.folder} lacks regions of {int(missing.sum())} of {len(images)} images "
                f"({per_image} of each are needed; {example} ...). Add them: bash scripts/generate_regions.sh with the "
                "same data set, seed and trainer."
            )
        return used

    def _shards_with(self, position: dict[str, int]) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """Yield shards of the given images, with the images' numbers in `position` and their places in the shard.

        Lists of images are dropped at once: ImageNet has 64,000 shards.
        """
        for shard in self.bank.each_shard():
            place = np.array([p for p, image in enumerate(shard.images) if image in position], np.int32)
            if len(place):
                image = np.array([position[shard.images[p]] for p in place], np.int32)
                yield replace(shard, images=[], sha256=[], sizes=[]), image, place

    def _gather(self, reader: ShardReader, name: str, image_index: Tensor, region: Tensor) -> Tensor:
        image, number = np.asarray(image_index), np.asarray(region)
        if len(number) and number.max() >= self.per_image:
            raise IndexError(f"region {number.max()} of {self.per_image}")
        part = (self._first[1:, image] <= number).sum(axis=0)
        return reader.read(name, self._file[part, image], self._row[part, image] + number)

    def _features_reader(self, student: tuple[str, str]) -> ShardReader:
        files = [self.bank.features_file(shard, student) for shard in self._shards]
        existing = {entry.name for entry in os.scandir(files[0].parent)} if files[0].parent.is_dir() else set()
        missing = [file for file in files if file.name not in existing]
        if missing:
            raise UserError(
                f"The region bank {self.bank.folder} lacks image features of the student {student[0]}: {len(missing)} "
                f"of {len(files)} files are missing in features/{features_folder(*student)}. Add them: bash "
                "scripts/generate_regions.sh with the same arguments, or set REGIONS.CACHE_STUDENT_FEATURES False."
            )
        headers = [self.bank.read_features_header(shard, student) for shard in self._shards]
        _check_checksums(files)
        return ShardReader(files, [header.tensors for header in headers])

    def _class_features(self, prompts: list[str]) -> Tensor:
        """Return the teacher's features of the prompts, [C, D]; of top-K banks, which need none, [C, 0]."""
        if self.identity["content"] == "embedding":
            return self.bank.text_features(prompts)
        if digest(prompts) != self.identity["classes"]:
            raise UserError(
                f"The top-K probabilities in {self.bank.folder} refer to another class list than these {len(prompts)} "
                "prompts. Use a bank with REGIONS.TARGET embedding, which serves every class list."
            )
        return torch.empty(len(prompts), 0)

    def _recover_probabilities(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Expand top-K probabilities to [B, C]: the other classes share the rest evenly."""
        values = self._gather(self._tensors, "probabilities", image_index, region).float()
        classes = self._gather(self._tensors, "classes", image_index, region).long()
        count, k = len(self.prompts), values.shape[1]
        rest = (1 - values.sum(-1, keepdim=True)).clamp_min(1e-6) / max(count - k, 1)
        return rest.expand(-1, count).scatter(1, classes, values.clamp_min(1e-8))


def _check_checksums(files: list[Path]) -> None:
    """Compare files with their checksums if they are small; large banks leave that to `fdbpl.regions verify`.

    Raises:
        UserError: the checksum of a file does not match.
    """
    if sum(file.stat().st_size for file in files) > MAX_CHECKED_BYTES:
        return
    for file in files:
        if not is_intact(file):
            raise UserError(f"The checksum of {file} does not match. {REMEDY}")
