"""Reading a region bank: what is known of region r of image i, for a batch at a time, from the files themselves."""

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

CHECKED = 1 << 28  # bytes that are compared with their checksums before they are used: less than a second


class RegionLookup:
    """A view of a bank for some images, with the teacher's opinion on some prompts.

    Args:
        bank: folder of the bank.
        images: paths relative to the data root; `image_index` below counts in this list.
        per_image: regions of each image that will be asked for.
        prompts: texts of the C classes; None where no logits are needed.
        student: (name, sha256) of the student whose features are looked up.

    Raises:
        UserError: regions, features or prompts are missing; the sentence says how to add them.
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
        _refuse_damaged([shard.file for shard in self._shards])
        self._tensors = ShardReader([shard.file for shard in self._shards], [shard.tensors for shard in self._shards])
        self._features = self._student_rows(student) if student else None
        self.prompts = prompts
        self._classes = self._selected_classes(prompts) if prompts is not None else None

    # what is looked up ------------------------------------------------------------------------------------------

    def embeddings(self, image_index: Tensor, region: Tensor) -> Tensor:
        """The teacher's image embeddings: float32 [B, D], of unit length up to float16 rounding."""
        return self._gather(self._tensors, "embeddings", image_index, region).float()

    def teacher_logits(self, image_index: Tensor, region: Tensor) -> Tensor:
        """The teacher's logits over the prompts: float32 [B, C]; of top-K banks the recovered log-probabilities."""
        if self._classes is None:
            raise UserError("expected prompts to compare regions with, found none; give RegionLookup the class prompts")
        if self.identity["content"] == "embedding":
            return self.identity["logit_scale"] * self.embeddings(image_index, region) @ self._classes.T
        return self._recovered(image_index, region).log()

    def entropy(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Entropy of the teacher's distribution over its C classes, divided by ln C: float32 [B] in [0, 1]."""
        if self.identity["content"] == "embedding":
            log = self.teacher_logits(image_index, region).log_softmax(-1)
            return -(log.exp() * log).sum(-1) / np.log(max(log.shape[-1], 2))
        stored = self._gather(self._tensors, "entropy", image_index, region).float()
        return stored / np.log(max(len(self.prompts), 2))

    def student_features(self, image_index: Tensor, region: Tensor) -> Tensor:
        """The student's image features: float32 [B, D], of unit length up to float16 rounding."""
        return self._gather(self._features, "features", image_index, region).float()

    def boxes(self, image_index: Tensor, region: Tensor) -> Tensor:
        """float32 [B, 4]: top, left, height, width as fractions."""
        return self._gather(self._tensors, "boxes", image_index, region)

    def flips(self, image_index: Tensor, region: Tensor) -> Tensor:
        """bool [B]."""
        return self._gather(self._tensors, "flips", image_index, region)

    # where it lies ----------------------------------------------------------------------------------------------

    def _locate(self, images: list[str], per_image: int) -> list[Shard]:
        """Fill the table of where regions lie; returns the files that hold them.

        An image's regions lie in one file, or in several where the bank has grown: part k of image i begins with region
        number `_first[k, i]`, and region r of it is row `_row[k, i]` + r of file number `_file[k, i]`; int32 [K, N].
        """
        position = {image: number for number, image in enumerate(images)}
        end = np.zeros(len(images), np.int32)  # regions found so far, from number 0 on
        parts = np.zeros(len(images), np.int32)  # in so many files
        self._first, self._file, self._row = (np.full((0, len(images)), per_image, np.int32) for _ in range(3))
        used: list[Shard] = []
        for shard, image, place in sorted(self._holders(position), key=lambda found: found[0].order):
            last = min(shard.first + shard.count, per_image)
            wanted = (shard.first <= end[image]) & (end[image] < last)
            if not wanted.any():
                continue
            image, place = image[wanted], place[wanted]
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
            first = images[int(missing.argmax())]
            raise UserError(
                f"expected {per_image} regions of each of {len(images)} images in {self.bank.folder}, found "
                f"{int(missing.sum())} images without ({first} ...); label them: bash scripts/generate_regions.sh "
                "with the same data set, seed and trainer"
            )
        return used

    def _holders(self, position: dict[str, int]) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """The shards of some of the images, with the number in `position` and the place in the shard of each of these.

        Of ImageNet's there are 64,000: what is not needed is not kept.
        """
        for shard in self.bank.each_shard():
            place = np.array([p for p, image in enumerate(shard.images) if image in position], np.int32)
            if len(place):
                image = np.array([position[shard.images[p]] for p in place], np.int32)
                yield replace(shard, images=[], sha256=[], sizes=[]), image, place

    def _gather(self, rows: ShardReader, name: str, image_index: Tensor, region: Tensor) -> Tensor:
        image, number = np.asarray(image_index), np.asarray(region)
        if len(number) and number.max() >= self.per_image:
            raise IndexError(f"region {number.max()} of {self.per_image}")
        part = (self._first[1:, image] <= number).sum(axis=0)
        return rows.read(name, self._file[part, image], self._row[part, image] + number)

    def _student_rows(self, student: tuple[str, str]) -> ShardReader:
        files = [self.bank.features_file(shard, student) for shard in self._shards]
        there = {entry.name for entry in os.scandir(files[0].parent)} if files[0].parent.is_dir() else set()
        missing = [file for file in files if file.name not in there]
        if missing:
            raise UserError(
                f"expected image features of the student {student[0]} in {self.bank.folder}/features/"
                f"{features_folder(*student)}, found {len(missing)} of {len(files)} files missing; add them: "
                "bash scripts/generate_regions.sh with the same arguments, or set REGIONS.CACHE_STUDENT_FEATURES False"
            )
        headers = [self.bank.read_features_header(shard, student) for shard in self._shards]
        _refuse_damaged(files)
        return ShardReader(files, [header.tensors for header in headers])

    def _selected_classes(self, prompts: list[str]) -> Tensor | None:
        if self.identity["content"] == "embedding":
            return self.bank.text_features(prompts)
        if digest(prompts) != self.identity["classes"]:
            raise UserError(
                f"expected the class list that the top-K probabilities in {self.bank.folder} are over, found another "
                f"one of {len(prompts)} prompts; use REGIONS.TARGET embedding, which serves every class list"
            )
        return torch.empty(len(prompts), 0)

    def _recovered(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Top-K probabilities -> [B, C]: what they leave over is shared evenly by the other classes."""
        values = self._gather(self._tensors, "probabilities", image_index, region).float()
        classes = self._gather(self._tensors, "classes", image_index, region).long()
        count, k = len(self.prompts), values.shape[1]
        rest = (1 - values.sum(-1, keepdim=True)).clamp_min(1e-6) / max(count - k, 1)
        return rest.expand(-1, count).scatter(1, classes, values.clamp_min(1e-8))


def _refuse_damaged(files: list[Path]) -> None:
    """Compare files with their checksums, unless they are so large that `python -m fdbpl.regions verify` has to.

    Raises:
        UserError: a file's bytes are not those that were written.
    """
    if sum(file.stat().st_size for file in files) > CHECKED:
        return
    for file in files:
        if not is_intact(file):
            raise UserError(f"expected the bytes that were written in {file}, found others; {REMEDY}")
