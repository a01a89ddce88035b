"""Labelling: lists of images become files of a bank, without the teacher waiting for decoder or disk."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fdbpl.backbones import Backbone
from fdbpl.errors import UserError
from fdbpl.pipelines import RegionPipeline, RegionRequests, ahead
from fdbpl.regions.bank import RegionBank, features_folder
from fdbpl.regions.boxes import draw_regions
from fdbpl.regions.cost import Cost
from fdbpl.regions.identity import BankIdentity
from fdbpl.regions.shard import Shard

BATCHES_AHEAD = 2  # decoded and waiting for the teacher, beside those that a pipeline has in its own hands


class _Batch(NamedTuple):
    """Regions `index`, int64 [b], of those a shard requests, as `images`, uint8 [b, 3, s, s], for some models."""

    shard: Shard
    requests: RegionRequests
    models: list[Backbone]
    index: Tensor
    images: Tensor


def _on_the_host(write: Callable[..., int], shard: Shard, requests: RegionRequests, results: list[Tensor]) -> int:
    """The one moment a file waits for its GPU; the next file's batches are under way there."""
    return write(shard, requests, *(result.cpu() for result in results))


class Labelling:
    """What turns lists of images into files of a bank.

    The teacher does not wait: regions are drawn and decoded ahead in a thread, across the end of a file; another thread
    writes the file before.

    Args:
        teacher: makes the teacher; called only where something of it is missing.
        student: makes the student whose image features are kept beside; None = none is.
        prompts: texts whose teacher features the bank shall hold; for "topk:K" the classes of the probabilities.
        pipeline: makes a pipeline of the side in pixels and of how many regions of an image follow each other.
        cost: where it is noted what was made.
    """

    def __init__(
        self,
        bank: RegionBank,
        identity: BankIdentity,
        teacher: Callable[[], Backbone],
        student: Callable[[], Backbone] | None,
        prompts: list[str],
        pipeline: Callable[[int, int], RegionPipeline],
        cost: Cost,
    ):
        self.bank, self.identity, self.prompts, self.cost = bank, identity, prompts, cost
        self._make_teacher, self._make_student, self._make_pipeline = teacher, student, pipeline
        self._pipelines: dict[int, RegionPipeline] = {}

    @cached_property
    def teacher(self) -> Backbone:
        model = self._make_teacher()
        if model.sha256 != self.identity.teacher_sha256:
            raise UserError(
                f"expected the teacher {self.identity.teacher} with SHA-256 {self.identity.teacher_sha256[:12]}..., "
                f"found {model.sha256[:12]}...; give the bank's teacher, or make another bank"
            )
        return model

    @cached_property
    def student(self) -> Backbone | None:
        return self._make_student() if self._make_student else None

    def label(self, shards: list[Shard], progress: tqdm) -> int:
        """Make new files; returns how many student features came along."""
        if not shards:
            return 0
        models = [self.teacher] if self.student is None else [self.teacher, self.student]

        def write(shard: Shard, requests: RegionRequests, embeddings: Tensor, *features: Tensor) -> int:
            for found in features:
                self._write_features(models[1], shard, found)
            tensors = {"boxes": torch.from_numpy(requests.boxes), "flips": torch.from_numpy(requests.flips)}
            self.bank.write_shard(shard, {**tensors, **self._content(embeddings)})
            made = sum(map(len, features))
            self.cost.add(len(requests), made)
            return made

        return self._work_off(shards, models, write, progress)

    def add_features(self, shards: list[Shard]) -> int:
        """The student's features of shards that are there, where they are missing; returns how many were made."""
        if not shards or self.student is None:
            return 0
        student = self.student
        folder = self.bank.folder / "features" / features_folder(student.name, student.sha256)
        there = {file.name for file in folder.glob("*.safetensors")}
        shards = [shard for shard in shards if shard.file.name not in there]

        def write(shard: Shard, requests: RegionRequests, features: Tensor) -> int:
            self._write_features(student, shard, features)
            self.cost.add(0, len(features))
            return len(features)

        return self._work_off(shards, [student], write)

    def _work_off(
        self, shards: list[Shard], models: list[Backbone], write: Callable[..., int], progress: tqdm | None = None
    ) -> int:
        """Embed the regions of every shard by every model and have them written: `write(shard, requests, *outputs)`.

        Outputs are unit embeddings, float16 [R, D]. Returns the sum of what `write` returns.
        """
        sizes = {model.image_size for model in models}  # one decoding serves all models of a size
        passes = [[model for model in models if model.image_size == size] for size in sorted(sizes)]
        made, written = 0, None
        with ThreadPoolExecutor(1) as writer:
            batches = ahead(self._batches(shards, passes), BATCHES_AHEAD)
            for shard, of_shard in groupby(batches, key=lambda batch: batch.shard):
                outputs: dict[int, Tensor] = {}
                for batch in of_shard:
                    for model in batch.models:
                        found = model.encode_image(batch.images)
                        if id(model) not in outputs:
                            shape = (len(batch.requests), model.embed_dim)
                            outputs[id(model)] = found.new_empty(shape, dtype=torch.float16)
                        outputs[id(model)][batch.index.to(found.device)] = found.half()
                    if progress is not None and models[0] in batch.models:
                        progress.update(len(batch.index))
                made += written.result() if written else 0
                results = [outputs[id(model)] for model in models]
                written = writer.submit(_on_the_host, write, shard, batch.requests, results)
            return made + (written.result() if written else 0)

    def _batches(self, shards: list[Shard], passes: list[list[Backbone]]) -> Iterator[_Batch]:
        for shard in shards:
            requests = self._draw(shard)
            for models in passes:
                for index, images in self._pipeline(models[0].image_size, shard.count)(requests):
                    yield _Batch(shard, requests, models, index, images)

    def _pipeline(self, size: int, count: int) -> RegionPipeline:
        if size not in self._pipelines:
            self._pipelines[size] = self._make_pipeline(size, count)
        return self._pipelines[size]

    def add_text(self) -> None:
        """The teacher's features of the prompts, where they are missing."""
        file = self.bank.text_file(self.prompts)
        if not file.is_file():
            self.bank.write_text(self.prompts, self.teacher.encode_text(self.prompts))

    def _draw(self, shard: Shard) -> RegionRequests:
        kind = self.identity
        drawn = [
            draw_regions(kind.seed, image, shard.first, shard.count, size, kind.scale, kind.ratio, kind.flip)
            for image, size in zip(shard.images, shard.sizes, strict=True)
        ]
        return RegionRequests(
            shard.images,
            np.repeat(np.arange(len(drawn)), shard.count),
            np.concatenate([regions.boxes for regions in drawn]),
            np.concatenate([regions.flips for regions in drawn]),
        )

    def _write_features(self, student: Backbone, shard: Shard, features: Tensor) -> None:
        self.bank.write_features(shard, (student.name, student.sha256), features)

    def _content(self, embeddings: Tensor) -> dict[str, Tensor]:
        if self.identity.content == "embedding":
            return {"embeddings": embeddings}
        k = top_k(self.identity.content, len(self.prompts))
        probabilities = (self.identity.logit_scale * embeddings.float() @ self._classes.T).softmax(-1)
        entropy = -(probabilities * probabilities.clamp_min(1e-30).log()).sum(-1)
        values, indices = probabilities.topk(k, dim=-1)
        kind = torch.int16 if len(self.prompts) <= torch.iinfo(torch.int16).max else torch.int32
        return {"probabilities": values.half(), "classes": indices.to(kind), "entropy": entropy.half()}

    @cached_property
    def _classes(self) -> Tensor:
        return self.teacher.encode_text(self.prompts).cpu()


def top_k(content: str, classes: int) -> int:
    """K of "topk:K", at most the number of classes."""
    kind, _, k = content.partition(":")
    if kind != "topk" or not k.isdigit() or int(k) < 1:
        raise UserError(
            f"expected REGIONS.CONTENT embedding or topk:K with K of at least 1, found {content!r}; give one of these"
        )
    return min(int(k), classes)
