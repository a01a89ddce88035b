"""Making a region bank: only what is missing, in files that appear whole, by one process or several."""

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from tqdm import tqdm

from fdbpl import distributed
from fdbpl.backbones import Backbone
from fdbpl.devices import with_index
from fdbpl.errors import UserError
from fdbpl.io import locks
from fdbpl.io.image_check import refuse_unreadable
from fdbpl.pipelines import RegionPipeline, build_pipeline, image_sizes
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.bank_writer import BankWriter, top_k
from fdbpl.regions.claims import Claims
from fdbpl.regions.cost import Cost
from fdbpl.regions.metadata import BankMetadata
from fdbpl.regions.shard import Shard

REGIONS_PER_SHARD = 1024  # what a kill can cost, twice: one file is written while the next is made


@dataclass(frozen=True)
class GenerationReport:
    """What `generate` found and made, in regions and images.

    Attributes:
        alone: of several processes only this one's work is counted: they do not know of each other.
    """

    bank: Path
    images: int
    images_there: int
    regions_made: int
    features_made: int
    alone: bool = False

    def __str__(self) -> str:
        return (
            f"Region bank {self.bank}: {self.images} images, {self.images_there} of them labelled before; "
            f"{self.regions_made} regions labelled, {self.features_made} student features added"
            f"{' (by this process)' * self.alone}"
        )


def generate(
    root: str | Path,
    images: list[str],
    bank: str | Path,
    identity: BankMetadata,
    teacher: Callable[[], Backbone],
    per_image: int,
    student: Callable[[], Backbone] | None = None,
    prompts: list[str] | None = None,
    pipeline: str = "auto",
    device: str = "cpu",
    batch_size: int = 256,
    workers: int = 0,
    dali_device: str = "cpu",
) -> GenerationReport:
    """Bring the bank in folder `bank` to `per_image` regions of each image.

    Args:
        root: data root. images: paths relative to it.
        identity: what the bank is, or must be.
        teacher: makes the teacher; called only where something of it is missing.
        student: makes the student whose image features are kept beside.
        prompts: texts whose teacher features the bank shall hold; for "topk:K" the classes of the probabilities.
        pipeline, workers, dali_device: as of `build_pipeline`.
        device: where the regions appear, "cpu" or "cuda"; the models are where `teacher` and `student` put them.
        batch_size: regions per forward pass.

    Under torchrun (RANK, WORLD_SIZE) the work is shared out. Calls that run at the same time share it as well, file by
    file: what one is at is left to it, waited for in the end, and made by the others where it dies.

    Raises:
        UserError: another bank in the folder, changed or unreadable images, a teacher that does not fit.
        SystemFailure: a file cannot be written. What is written stays and is not made again.
    """
    root, images, prompts = Path(root), sorted(set(images)), list(prompts or [])
    place = str(with_index(device))  # here: the pipeline is built in a thread, which would take GPU 0
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if identity.content != "embedding":
        top_k(identity.content, len(prompts))
    opened = RegionBank.create(bank, identity, _versions())
    cost = Cost(opened.folder, timed=rank == 0)
    with _shared_lock(opened), Claims(opened.folder) as claims:
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

        def decoder(size: int, count: int) -> RegionPipeline:
            return build_pipeline(pipeline, root, size, batch_size, place, workers, count, dali_device)

        labelling = BankWriter(opened, identity, teacher, student, prompts, decoder, claims, cost)
        total = sum(len(shard.images) * shard.count for shard in todo)
        shown = None if total and rank == 0 else True  # None: on a terminal
        with tqdm(total=total, unit="region", desc="Labelling regions", disable=shown) as progress:
            labelling.label(todo, progress)
        labelling.add_features([*lacking, *todo])  # new ones have them, unless another process made the file
        if prompts and rank == 0:
            labelling.add_text()
    labelled_before = sum(image in there for image in images)
    regions_made, features_made = distributed.all_reduce_sum(labelling.regions_made, labelling.features_made)
    alone = world > distributed.world_size()
    return GenerationReport(opened.folder, len(images), labelled_before, regions_made, features_made, alone)


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
def _shared_lock(bank: RegionBank) -> Iterator[None]:
    """Held while generating. Who finds nobody else here first clears away what a killed process left."""
    with open(bank.folder / ".lock", "a") as file:
        with suppress(BlockingIOError):  # somebody else generates: leave their temporary files alone
            if locks.try_lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                bank.clean_partial_files()
        locks.try_lock(file, fcntl.LOCK_SH)
        yield


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "pillow", "nvidia-dali-cuda130"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    return found
