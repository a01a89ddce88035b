"""Reading a region bank: what is known of region r of image i, for a batch at a time, from memory-mapped files."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fdbpl.errors import UserError
from fdbpl.regions.bank import REMEDY, RegionBank, Shard, features_folder


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
        self.shards: list[Shard] = []
        self._locate(images, per_image)
        self._tensors = [_mapped(shard.file) for shard in self.shards]
        self._features = self._student_files(student) if student else None
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

    def _locate(self, images: list[str], per_image: int) -> None:
        """Fill shard and row number of every region: int32 [N, M] each."""
        position = {image: number for number, image in enumerate(images)}
        self._shard = np.full((len(images), per_image), -1, np.int32)
        self._row = np.zeros((len(images), per_image), np.int32)
        for shard in self.bank.shards():
            here = [(position[image], place) for place, image in enumerate(shard.images) if image in position]
            end = min(shard.first + shard.count, per_image)
            if not here or end <= shard.first:
                continue
            number = len(self.shards)
            self.shards.append(shard)
            for image, place in here:
                self._shard[image, shard.first : end] = number
                self._row[image, shard.first : end] = place * shard.count + np.arange(end - shard.first)
        missing = (self._shard < 0).any(axis=1)
        if missing.any():
            first = images[int(missing.argmax())]
            raise UserError(
                f"expected {per_image} regions of each of {len(images)} images in {self.bank.folder}, found "
                f"{int(missing.sum())} images without ({first} ...); label them: bash scripts/generate_regions.sh "
                "with the same data set, seed and trainer"
            )

    def _gather(self, files: list[dict[str, Tensor]], name: str, image_index: Tensor, region: Tensor) -> Tensor:
        image, number = np.asarray(image_index), np.asarray(region)
        shards, rows = self._shard[image, number], torch.from_numpy(self._row[image, number].astype(np.int64))
        sample = files[shards[0]][name]
        output = torch.empty((len(rows), *sample.shape[1:]), dtype=sample.dtype)
        for shard in np.unique(shards):
            here = torch.from_numpy(np.flatnonzero(shards == shard))
            output[here] = files[shard][name][rows[here]]
        return output

    def _student_files(self, student: tuple[str, str]) -> list[dict[str, Tensor]]:
        files = [self.bank.features_file(shard, student) for shard in self.shards]
        missing = [file for file in files if not file.is_file()]
        if missing:
            raise UserError(
                f"expected image features of the student {student[0]} in {self.bank.folder}/features/"
                f"{features_folder(*student)}, found {len(missing)} of {len(files)} files missing; add them: "
                "bash scripts/generate_regions.sh with the same arguments, or set REGIONS.FEATURES False"
            )
        return [_mapped(file) for file in files]

    def _selected_classes(self, prompts: list[str]) -> Tensor | None:
        if self.identity["content"] == "embedding":
            return self.bank.text_features(prompts)
        from fdbpl.regions.bank import digest

        if digest(prompts) != self.identity["classes"]:
            raise UserError(
                f"expected the class list that the top-K probabilities in {self.bank.folder} are over, found another "
                f"one of {len(prompts)} prompts; use REGIONS.CONTENT embedding, which serves every class list"
            )
        return torch.empty(len(prompts), 0)

    def _recovered(self, image_index: Tensor, region: Tensor) -> Tensor:
        """Top-K probabilities -> [B, C]: what they leave over is shared evenly by the other classes."""
        values = self._gather(self._tensors, "probabilities", image_index, region).float()
        classes = self._gather(self._tensors, "classes", image_index, region).long()
        count, k = len(self.prompts), values.shape[1]
        rest = (1 - values.sum(-1, keepdim=True)).clamp_min(1e-6) / max(count - k, 1)
        return rest.expand(-1, count).scatter(1, classes, values.clamp_min(1e-8))


def _mapped(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, backed by the file itself."""
    try:
        with safe_open(file, "pt") as content:
            json.loads(content.metadata()["shard"])
            return {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"expected a file of a region bank in {file}, found a broken one ({error}); {REMEDY}"
        ) from error
