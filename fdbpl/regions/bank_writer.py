"""Labelling: lists of images become files of a bank, without the teacher waiting for decoder or disk."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fdbpl.backbones import Backbone
from fdbpl.crops import sample_crops
from fdbpl.errors import UserError
from fdbpl.pipelines import RegionPipeline, RegionRequests, prefetch
from fdbpl.regions.bank import RegionBank, features_folder
from fdbpl.regions.claims import Claims
from fdbpl.regions.cost import Cost
from fdbpl.regions.metadata import BankMetadata
from fdbpl.regions.shard import Shard

BATCHES_AHEAD = 2  # decoded and waiting for the teacher, beside those that a pipeline has in its own hands


class _Batch(NamedTuple):
    """Regions `index`, int64 [b], of those a shard requests, as `images`, uint8 [b, 3, s, s], for some models."""

    shard: Shard
    requests: RegionRequests
    models: list[Backbone]
    index: Tensor
    images: Tensor


class BankWriter:
    """What turns lists of images into files of a bank.

    The teacher does not wait: regions are drawn and decoded ahead in a thread, across the end of a file; another thread
    writes the file before. A file that another process is making is left to it, unless that process dies.

    Attributes:
        regions_made, features_made: what this process has written.

    Args:
        teacher: makes the teacher; called only where something of it is missing.
        student: makes the student whose image features are kept beside; None = none is.
        prompts: texts whose teacher features the bank shall hold; for "topk:K" the classes of the probabilities.
        pipeline: makes a pipeline of the side in pixels and of how many regions of an image follow each other.
        claims: to the files that are made. cost: where it is noted what was made.
    """

    def __init__(
        self,
        bank: RegionBank,
        identity: BankMetadata,
        teacher: Callable[[], Backbone],
        student: Callable[[], Backbone] | None,
        prompts: list[str],
        pipeline: Callable[[int, int], RegionPipeline],
        claims: Claims,
        cost: Cost,
    ):
        self.bank, self.identity, self.prompts, self.claims, self.cost = bank, identity, prompts, claims, cost
        self._make_teacher, self._make_student, self._make_pipeline = teacher, student, pipeline
        self._pipelines: dict[int, RegionPipeline] = {}
        self.regions_made = self.features_made = 0

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

    def label(self, shards: list[Shard], progress: tqdm) -> None:
        """Make new files, with the student's features beside them."""
        if not shards:
            return
        models = [self.teacher] if self.student is None else [self.teacher, self.student]

        def write(shard: Shard, requests: RegionRequests, embeddings: Tensor, *features: Tensor) -> None:
            for found in features:
                self._write_features(models[1], shard, found)
            tensors = {"boxes": torch.from_numpy(requests.boxes), "flips": torch.from_numpy(requests.flips)}
            shard = replace(shard, decoder=self._decoder(models[0]))
            self.bank.write_shard(shard, {**tensors, **self._content(embeddings)})
            self._made(len(requests), sum(map(len, features)))

        self._share_out(shards, lambda shard: shard.file, models, write, progress)

    def add_features(self, shards: list[Shard]) -> None:
        """The student's features of shards that are there, where they are missing."""
        if not shards or self.student is None:
            return
        student = self.student
        folder = self.bank.folder / "features" / features_folder(student.name, student.sha256)
        there = {file.name for file in folder.glob("*.safetensors")}
        shards = [shard for shard in shards if shard.file.name not in there]

        def write(shard: Shard, requests: RegionRequests, features: Tensor) -> None:
            self._write_features(student, shard, features)
            self._made(0, len(features))

        self._share_out(shards, lambda shard: folder / shard.file.name, [student], write)

    def _share_out(
        self, shards: list[Shard], file: Callable[[Shard], Path], models: list[Backbone], write: Callable[..., None],
        progress: tqdm | None = None,
    ) -> None:  # fmt: skip
        """Have `file(shard)` of every shard written, here or by others."""
        elsewhere: list[Shard] = []

        def found(shard: Shard) -> bool:
            """Whether another process has made it since we looked."""
            there = file(shard).is_file()
            if there and progress is not None:
                progress.update(len(shard.images) * shard.count)
            return there

        def ours() -> Iterator[Shard]:
            for shard in shards:
                if not self.claims.take(file(shard)):
                    elsewhere.append(shard)
                elif found(shard):
                    self.claims.leave(file(shard))
                else:
                    yield shard

        def write_and_leave(shard: Shard, *content: RegionRequests | Tensor) -> None:
            write(shard, *content)
            self.claims.leave(file(shard))

        self._process_shards(ours(), models, write_and_leave, progress)
        if elsewhere:
            tqdm.write(f"Waiting for another call, which makes {len(elsewhere)} files of {self.bank.folder}")
            sys.stdout.flush()
        for shard in elsewhere:  # in turn: we hold nothing that somebody may wait for
            with self.claims.waiting(file(shard)):
                if not found(shard):  # whoever was at it is gone
                    self._process_shards([shard], models, write, progress)

    def _process_shards(
        self, shards: Iterable[Shard], models: list[Backbone], write: Callable[..., None], progress: tqdm | None = None
    ) -> None:
        """Embed the regions of every shard by every model and have them written: `write(shard, requests, *outputs)`.

        Outputs are unit embeddings, float16 [R, D].
        """

        def on_the_host(shard: Shard, requests: RegionRequests, results: list[Tensor]) -> None:
            """The one moment a file waits for its GPU; the next file's batches are under way there."""
            write(shard, requests, *(result.cpu() for result in results))

        sizes = {model.image_size for model in models}  # one decoding serves all models of a size
        passes = [[model for model in models if model.image_size == size] for size in sorted(sizes)]
        written: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer:
            batches = prefetch(self._batches(shards, passes), BATCHES_AHEAD)
            for shard, of_shard in groupby(batches, key=lambda batch: batch.shard):
                outputs: dict[int, Tensor] = {}
                for batch in of_shard:
                    for model in batch.models:
                        found = model.encode_image(batch.images)
                        if id(model) not in outputs:
                            shape = (len(batch.requests), model.embed_dim)
                            outputs[id(model)] = found.new_empty(shape, dtype=torch.float16)
                        outputs[id(model)][batch.index.to(found.device, non_blocking=True)] = found.half()
                    if progress is not None and models[0] in batch.models:
                        progress.update(len(batch.index))
                if written:
                    written.result()
                results = [outputs[id(model)] for model in models]
                written = writer.submit(on_the_host, shard, batch.requests, results)
            if written:
                written.result()

    def _batches(self, shards: Iterable[Shard], passes: list[list[Backbone]]) -> Iterator[_Batch]:
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
        with self.claims.waiting(file):
            if not file.is_file():
                self.bank.write_text(self.prompts, self.teacher.encode_text(self.prompts))

    def _draw(self, shard: Shard) -> RegionRequests:
        kind = self.identity
        drawn = [
            sample_crops(kind.seed, image, shard.first, shard.count, size, kind.scale, kind.ratio, kind.flip)
            for image, size in zip(shard.images, shard.sizes, strict=True)
        ]
        return RegionRequests(
            shard.images,
            np.repeat(np.arange(len(drawn)), shard.count),
            np.concatenate([regions.boxes for regions in drawn]),
            np.concatenate([regions.flips for regions in drawn]),
        )

    def _made(self, regions: int, features: int) -> None:
        self.regions_made, self.features_made = self.regions_made + regions, self.features_made + features
        self.cost.add(regions, features)

    def _write_features(self, student: Backbone, shard: Shard, features: Tensor) -> None:
        shard = replace(shard, decoder=self._decoder(student))
        self.bank.write_features(shard, (student.name, student.sha256), features)

    def _decoder(self, model: Backbone) -> str:
        """What decoded the images that `model` was given."""
        return self._pipelines[model.image_size].decoder

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
            f"expected REGIONS.TARGET embedding or topk:K with K of at least 1, found {content!r}; give one of these"
        )
    return min(int(k), classes)
