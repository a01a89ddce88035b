"""Making a region bank: only what is missing, in files that appear whole, by one process or several."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fdbpl.atomic import write_tensors
from fdbpl.backbones import Backbone
from fdbpl.errors import UserError
from fdbpl.image_check import refuse_unreadable
from fdbpl.pipelines import RegionPipeline, RegionRequests, ahead, build_pipeline, image_sizes
from fdbpl.regions.bank import BankIdentity, RegionBank, Shard, features_folder, payload_digest
from fdbpl.regions.boxes import draw_regions
from fdbpl.regions.cost import Cost

REGIONS_PER_SHARD = 1024  # what a kill can cost, twice: one file is written while the next is made
BATCHES_AHEAD = 2  # decoded and waiting for the teacher, beside those that a pipeline has in its own hands


@dataclass(frozen=True)
class GenerationReport:
    """What `generate` found and made, in regions and images."""

    bank: Path
    images: int
    images_there: int
    regions_made: int
    features_made: int

    def __str__(self) -> str:
        return (
            f"Region bank {self.bank}: {self.images} images, {self.images_there} of them labelled before; "
            f"{self.regions_made} regions labelled, {self.features_made} student features added"
        )


def generate(
    root: str | Path,
    images: list[str],
    bank: str | Path,
    identity: BankIdentity,
    teacher: Callable[[], Backbone],
    per_image: int,
    student: Callable[[], Backbone] | None = None,
    prompts: list[str] | None = None,
    pipeline: str = "auto",
    device: str = "cpu",
    batch_size: int = 256,
) -> GenerationReport:
    """Bring the bank in folder `bank` to `per_image` regions of each image.

    Args:
        root: data root. images: paths relative to it.
        identity: what the bank is, or must be.
        teacher: makes the teacher; called only where something of it is missing.
        student: makes the student whose image features are kept beside.
        prompts: texts whose teacher features the bank shall hold; for "topk:K" the classes of the probabilities.
        batch_size: regions per forward pass.

    Under torchrun (RANK, WORLD_SIZE) the work is shared out; processes that run at the same time do no harm.

    Raises:
        UserError: another bank in the folder, changed or unreadable images, a teacher that does not fit.
        MachineError: a file cannot be written. What is written stays and is not made again.
    """
    root, images, prompts = Path(root), sorted(set(images)), list(prompts or [])
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    opened = RegionBank.create(bank, identity, _versions())
    cost = Cost(opened.folder, timed=rank == 0)
    with _shared_lock(opened):
        shards = opened.shards()
        there = _covered(shards)
        todo = [shard for shard in _missing_shards(opened, images, there, per_image) if _share(shard, world) == rank]
        lacking = [shard for shard in _shards_of(shards, images) if _share(shard, world) == rank]
        new_images = sorted({image for shard in todo for image in shard.images})
        refuse_unreadable(root, new_images)
        hashes = _image_hashes(root, sorted({*new_images, *_images_of(lacking, images)}))
        _refuse_changed(opened, shards, hashes)
        sizes = image_sizes(root, new_images)
        todo = [
            replace(shard, sha256=[hashes[image] for image in shard.images],
                    sizes=[sizes[image] for image in shard.images])
            for shard in todo
        ]  # fmt: skip
        makers = _Makers(
            opened, root, pipeline, device, batch_size, identity, _Lazy(teacher), _Lazy(student) if student else None,
            prompts, cost,
        )  # fmt: skip
        total = sum(len(shard.images) * shard.count for shard in todo)
        shown = None if total and rank == 0 else True  # None: on a terminal
        with tqdm(total=total, unit="region", desc="Labelling regions", disable=shown) as progress:
            features_made = makers.label(todo, progress)
        if student:
            features_made += makers.add_features(lacking)
        if prompts and rank == 0:
            makers.add_text()
    labelled_before = sum(image in there for image in images)
    return GenerationReport(opened.folder, len(images), labelled_before, total, features_made)


class _Lazy:
    """A model that is built at first use."""

    def __init__(self, make: Callable[[], Backbone]):
        self._make, self._made = make, None

    def __call__(self) -> Backbone:
        if self._made is None:
            self._made = self._make()
        return self._made


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


class _Makers:
    """What turns lists of images into files of a bank.

    The teacher does not wait: regions are drawn and decoded ahead in a thread, across the end of a file; another thread
    writes the file before.
    """

    def __init__(self, bank, root, pipeline, device, batch_size, identity, teacher, student, prompts, cost):
        self.bank, self.root, self.identity, self.cost = bank, root, identity, cost
        self.pipeline, self.device, self.batch_size = pipeline, device, batch_size
        self._teacher, self.student, self.prompts = teacher, student, prompts
        self._pipelines: dict = {}

    def teacher(self) -> Backbone:
        model = self._teacher()
        if model.sha256 != self.identity.teacher_sha256:
            raise UserError(
                f"expected the teacher {self.identity.teacher} with SHA-256 {self.identity.teacher_sha256[:12]}..., "
                f"found {model.sha256[:12]}...; give the bank's teacher, or make another bank"
            )
        return model

    def label(self, shards: list[Shard], progress: tqdm) -> int:
        """Make new files; returns how many student features came along."""
        if not shards:
            return 0
        teacher = self.teacher()
        models = [teacher] if self.student is None else [teacher, self.student()]

        def write(shard: Shard, requests: RegionRequests, embeddings: Tensor, *features: Tensor) -> int:
            for found in features:
                self._write_features(shard, found)
            tensors = {"boxes": torch.from_numpy(requests.boxes), "flips": torch.from_numpy(requests.flips)}
            self.bank.write_shard(shard, {**tensors, **self._content(embeddings)})
            made = sum(map(len, features))
            self.cost.add(len(requests), made)
            return made

        return self._work_off(shards, models, write, progress)

    def add_features(self, shards: list[Shard]) -> int:
        """The student's features of shards that are there, where they are missing."""
        if not shards:
            return 0
        student = self.student()
        folder = self.bank.folder / "features" / features_folder(student.name, student.sha256)
        there = {file.name for file in folder.glob("*.safetensors")}
        shards = [shard for shard in shards if shard.file.name not in there]

        def write(shard: Shard, requests: RegionRequests, features: Tensor) -> int:
            self._write_features(shard, features)
            self.cost.add(0, len(features))
            return len(features)

        return self._work_off(shards, [student], write)

    def _work_off(self, shards: list[Shard], models: list[Backbone], write: Callable[..., int], progress=None) -> int:
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

    def _batches(self, shards: list[Shard], passes: list[list[Backbone]]) -> Iterator["_Batch"]:
        for shard in shards:
            requests = self._draw(shard)
            for models in passes:
                for index, images in self._pipeline(models[0].image_size, shard.count)(requests):
                    yield _Batch(shard, requests, models, index, images)

    def _pipeline(self, size: int, count: int) -> RegionPipeline:
        if size not in self._pipelines:
            self._pipelines[size] = build_pipeline(
                self.pipeline, self.root, size, self.batch_size, self.device, regions_per_image=count
            )
        return self._pipelines[size]

    def add_text(self) -> None:
        """The teacher's features of the prompts, where they are missing."""
        file = self.bank.text_file(self.prompts)
        if not file.is_file():
            write_tensors(
                file, {"features": self.teacher().encode_text(self.prompts)}, {"prompts": json.dumps(self.prompts)}
            )

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

    def _write_features(self, shard: Shard, features: Tensor) -> None:
        student = self.student()
        tensors = {"features": features}
        write_tensors(
            self.bank.features_file(shard, (student.name, student.sha256)),
            tensors,
            {"shard": json.dumps({"payload": payload_digest(tensors)})},
        )

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
        return self.teacher().encode_text(self.prompts).cpu()


def top_k(content: str, classes: int) -> int:
    """K of "topk:K", at most the number of classes."""
    kind, _, k = content.partition(":")
    if kind != "topk" or not k.isdigit() or int(k) < 1:
        raise UserError(
            f"expected REGIONS.CONTENT embedding or topk:K with K of at least 1, found {content!r}; e.g. topk:10"
        )
    return min(int(k), classes)


def _covered(shards: list[Shard]) -> dict[str, int]:
    """How many regions of each image are there, from number 0 on."""
    there: dict[str, int] = {}
    for shard in shards:  # sorted by first region number
        for image in shard.images:
            if there.get(image, 0) == shard.first:
                there[image] = shard.first + shard.count
    return there


def _missing_shards(bank: RegionBank, images: list[str], there: dict[str, int], per_image: int) -> Iterator[Shard]:
    """The files still to make. Their cut does not depend on how much of them is done: whole files are done or not."""
    groups: dict[int, list[str]] = {}
    for image in images:
        if there.get(image, 0) < per_image:
            groups.setdefault(there.get(image, 0), []).append(image)
    for first, members in sorted(groups.items()):
        count = per_image - first
        step = max(1, REGIONS_PER_SHARD // count)
        for start in range(0, len(members), step):
            chunk = members[start : start + step]
            yield Shard(bank.folder / bank.shard_name(chunk, first, count), chunk, [], [], first, count)


def _share(shard: Shard, world: int) -> int:
    """Which of `world` processes makes a file: told by its name, so that processes agree whenever they begin."""
    return int(shard.file.stem.rpartition("-")[2], 16) % world


def _shards_of(shards: list[Shard], images: list[str]) -> list[Shard]:
    wanted = set(images)
    return [shard for shard in shards if not wanted.isdisjoint(shard.images)]


def _images_of(shards: list[Shard], images: list[str]) -> set[str]:
    return {image for shard in shards for image in shard.images} & set(images)


def _image_hashes(root: Path, images: list[str]) -> dict[str, str]:
    def sha256(image: str) -> str:
        try:
            return hashlib.sha256((root / image).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(
                f"expected an image at {root / image}, found none ({error.strerror}); restore it"
            ) from error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(images, pool.map(sha256, images), strict=True))


def _refuse_changed(bank: RegionBank, shards: list[Shard], hashes: dict[str, str]) -> None:
    changed = sorted(
        {image for shard in shards for image, sha in zip(shard.images, shard.sha256, strict=True)
         if image in hashes and hashes[image] != sha}
    )  # fmt: skip
    if changed:
        raise UserError(
            f"expected the images that {bank.folder} was made from, found {len(changed)} changed since "
            f"({', '.join(changed[:3])} ...); restore them or delete that bank"
        )


@contextmanager
def _shared_lock(bank: RegionBank):
    """Held while generating. Who finds nobody else here first clears away what a killed process left."""
    with open(bank.folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            bank.remove_leftovers()
        except OSError:
            pass  # somebody else generates: leave their temporary files alone
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "pillow", "nvidia-dali-cuda130"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found
