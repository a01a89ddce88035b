"""Writer of a region bank: decodes regions, runs teacher and student on them and writes shards, all in parallel."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import groupby
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
from fdbpl.regions.cost import CostRecorder
from fdbpl.regions.metadata import BankMetadata
from fdbpl.regions.shard import Shard

PREFETCHED_BATCHES = 2  # decoded and waiting for the teacher, in addition to those inside a pipeline


class _Batch(NamedTuple):
    """Decoded regions of a shard for some models.

    Attributes:
        index: int64 [b], numbers of these requests in the shard.
        images: uint8 [b, 3, s, s].
    """

    shard: Shard
    requests: RegionRequests
    models: list[Backbone]
    index: Tensor
    images: Tensor


class BankWriter:
    """Writer of the shards, student features and text features of a bank.

    The teacher never waits for decoder or disk: one thread samples and decodes regions ahead, across the boundaries of
    shards, and another one writes the previous shard.

    Attributes:
        regions_made, features_made: number of regions and of student features that this process has written.

    Args:
        teacher: builds the teacher; called only if some of its outputs are missing.
        student: builds the student whose image features are stored too; None = no student.
        prompts: texts whose teacher features the bank stores; with "topk:K" the classes of the probabilities.
        pipeline: builds a pipeline from the side in pixels and the number of consecutive regions of an image.
        cost: recorder of the work.
    """

    def __init__(
        self,
        bank: RegionBank,
        identity: BankMetadata,
        teacher: Callable[[], Backbone],
        student: Callable[[], Backbone] | None,
        prompts: list[str],
        pipeline: Callable[[int, int], RegionPipeline],
        cost: CostRecorder,
    ):
        self.bank, self.identity, self.prompts, self.cost = bank, identity, prompts, cost
        self._make_teacher, self._make_student, self._make_pipeline = teacher, student, pipeline
        self._pipelines: dict[int, RegionPipeline] = {}
        self.regions_made = self.features_made = 0

    @cached_property
    def teacher(self) -> Backbone:
        model = self._make_teacher()
        if model.sha256 != self.identity.teacher_sha256:
            raise UserError(
                f"The weights of the teacher {self.identity.teacher} have the SHA-256 {model.sha256[:12]}..., but the "
                f"bank {self.bank.folder} was generated with {self.identity.teacher_sha256[:12]}.... Use the bank's "
                "teacher, or generate another bank."
            )
        return model

    @cached_property
    def student(self) -> Backbone | None:
        return self._make_student() if self._make_student else None

    def write_shards(self, shards: list[Shard], progress: tqdm) -> None:
        """Generate new shards, together with the student's features of their regions."""
        if not shards:
            return
        models = [self.teacher] if self.student is None else [self.teacher, self.student]

        def write(shard: Shard, requests: RegionRequests, embeddings: Tensor, *features: Tensor) -> None:
            for student_features in features:
                self._write_features(models[1], shard, student_features)
            tensors = {"boxes": torch.from_numpy(requests.boxes), "flips": torch.from_numpy(requests.flips)}
            shard = replace(shard, decoder=self._decoder(models[0]))
            self.bank.write_shard(shard, {**tensors, **self._teacher_outputs(embeddings)})
            self._count(len(requests), sum(map(len, features)))

        self._process_shards(shards, models, write, progress)

    def add_features(self, shards: list[Shard]) -> None:
        """Generate the student's features of existing shards where they are missing."""
        if not shards or self.student is None:
            return
        student = self.student
        folder = self.bank.folder / "features" / features_folder(student.name, student.sha256)
        existing = {file.name for file in folder.glob("*.safetensors")}

        def write(shard: Shard, requests: RegionRequests, features: Tensor) -> None:
            self._write_features(student, shard, features)
            self._count(0, len(features))

        self._process_shards([shard for shard in shards if shard.file.name not in existing], [student], write)

    def add_text(self) -> None:
        """Generate the teacher's features of the prompts if they are missing."""
        if not self.bank.text_file(self.prompts).is_file():
            self.bank.write_text(self.prompts, self.teacher.encode_text(self.prompts))

    def _process_shards(
        self, shards: Iterable[Shard], models: list[Backbone], write: Callable[..., None], progress: tqdm | None = None
    ) -> None:
        """Encode the regions of every shard with every model and call `write(shard, requests, *outputs)`.

        Outputs are unit embeddings, float16 [R, D].
        """

        def write_on_host(shard: Shard, requests: RegionRequests, results: list[Tensor]) -> None:
            """Copy the results to the host: the only point where a shard waits for the GPU."""
            write(shard, requests, *(result.cpu() for result in results))

        sizes = {model.image_size for model in models}  # models of the same input size share the decoded regions
        passes = [[model for model in models if model.image_size == size] for size in sorted(sizes)]
        written: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer:
            batches = prefetch(self._batches(shards, passes), PREFETCHED_BATCHES)
            for shard, shard_batches in groupby(batches, key=lambda batch: batch.shard):
                outputs: dict[int, Tensor] = {}
                for batch in shard_batches:
                    for model in batch.models:
                        embeddings = model.encode_image(batch.images)
                        if id(model) not in outputs:
                            shape = (len(batch.requests), model.embed_dim)
                            outputs[id(model)] = embeddings.new_empty(shape, dtype=torch.float16)
                        outputs[id(model)][batch.index.to(embeddings.device, non_blocking=True)] = embeddings.half()
                    if progress is not None and models[0] in batch.models:
                        progress.update(len(batch.index))
                if written:
                    written.result()
                results = [outputs[id(model)] for model in models]
                written = writer.submit(write_on_host, shard, batch.requests, results)
            if written:
                written.result()

    def _batches(self, shards: Iterable[Shard], passes: list[list[Backbone]]) -> Iterator[_Batch]:
        for shard in shards:
            requests = self._requests(shard)
            for models in passes:
                for index, images in self._pipeline(models[0].image_size, shard.count)(requests):
                    yield _Batch(shard, requests, models, index, images)

    def _pipeline(self, size: int, count: int) -> RegionPipeline:
        if size not in self._pipelines:
            self._pipelines[size] = self._make_pipeline(size, count)
        return self._pipelines[size]

    def _requests(self, shard: Shard) -> RegionRequests:
        """Sample the regions of a shard."""
        bank = self.identity
        regions = [
            sample_crops(bank.seed, image, shard.first, shard.count, size, bank.scale, bank.ratio, bank.flip)
            for image, size in zip(shard.images, shard.sizes, strict=True)
        ]
        return RegionRequests(
            shard.images,
            np.repeat(np.arange(len(regions)), shard.count),
            np.concatenate([of_image.boxes for of_image in regions]),
            np.concatenate([of_image.flips for of_image in regions]),
        )

    def _count(self, regions: int, features: int) -> None:
        self.regions_made, self.features_made = self.regions_made + regions, self.features_made + features
        self.cost.add(regions, features)

    def _write_features(self, student: Backbone, shard: Shard, features: Tensor) -> None:
        shard = replace(shard, decoder=self._decoder(student))
        self.bank.write_features(shard, (student.name, student.sha256), features)

    def _decoder(self, model: Backbone) -> str:
        """Return the decoder of the images that `model` received."""
        return self._pipelines[model.image_size].decoder

    def _teacher_outputs(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Convert the teacher's unit embeddings, float16 [R, D], to the tensors that the bank stores."""
        if self.identity.content == "embedding":
            return {"embeddings": embeddings}
        k = top_k(self.identity.content, len(self.prompts))
        probabilities = (self.identity.logit_scale * embeddings.float() @ self._class_features.T).softmax(-1)
        entropy = -(probabilities * probabilities.clamp_min(1e-30).log()).sum(-1)
        values, indices = probabilities.topk(k, dim=-1)
        dtype = torch.int16 if len(self.prompts) <= torch.iinfo(torch.int16).max else torch.int32
        return {"probabilities": values.half(), "classes": indices.to(dtype), "entropy": entropy.half()}

    @cached_property
    def _class_features(self) -> Tensor:
        return self.teacher.encode_text(self.prompts).cpu()


def top_k(content: str, classes: int) -> int:
    """Parse K of "topk:K", limited to the number of classes.

    Raises:
        UserError: `content` has another form.
    """
    kind, _, k = content.partition(":")
    if kind != "topk" or not k.isdigit() or int(k) < 1:
        raise UserError(
            f"Unknown REGIONS.TARGET {content!r:.60}: choose embedding, or topk:K with K of at least 1, e.g. topk:10."
        )
    return min(int(k), classes)
