"""Generation of the missing parts of region banks, in atomically written files, by one or several processes."""

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
from fdbpl.io.atomic import clean_partial_files
from fdbpl.io.image_check import check_readable
from fdbpl.io.locks import file_lock
from fdbpl.pipelines import RegionPipeline, build_pipeline, image_sizes
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.bank_writer import BankWriter, top_k
from fdbpl.regions.cost import CostRecorder
from fdbpl.regions.metadata import BankMetadata
from fdbpl.regions.shard import Shard

REGIONS_PER_SHARD = 1024  # a kill loses at most two shards: one is written while the next is computed
PACKAGES = ("torch", "pillow", "nvidia-dali-cuda120", "nvidia-dali-cuda130")


@dataclass(frozen=True)
class GenerationReport:
    """Number of images and regions that `generate` found and generated, over all processes."""

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
    """Extend the bank in folder `bank` to `per_image` regions of each image.

    Args:
        root: data root. images: paths relative to it.
        identity: metadata of the bank; an existing bank must have the same.
        teacher: builds the teacher; called only if some of its outputs are missing.
        student: builds the student whose image features are stored too; None = no student.
        prompts: texts whose teacher features the bank stores; with "topk:K" the classes of the probabilities.
        pipeline, workers, dali_device: see `build_pipeline`.
        device: device of the decoded regions, "cpu" or "cuda"; `teacher` and `student` choose their own.
        batch_size: regions in a forward pass.

    The processes of one torchrun share the work. A call that finds another one at work on the bank waits for its end,
    then generates what is still missing.

    Raises:
        UserError: the folder holds another bank, images are unreadable or have changed, or the teacher does not match.
        SystemFailure: a file cannot be written. Files that are complete stay and are not generated again.
    """
    root, images, prompts = Path(root), sorted(set(images)), list(prompts or [])
    place = str(with_index(device))  # resolved here: the pipeline is built in a thread, whose current GPU is GPU 0
    rank, world_size = distributed.rank(), distributed.world_size()
    if identity.content != "embedding":
        top_k(identity.content, len(prompts))
    opened = RegionBank.create(bank, identity, _versions())
    with _exclusive_access(opened.folder):
        cost = CostRecorder(opened.folder, timed=rank == 0)
        shards = opened.shards()
        counts = _region_counts(shards)
        missing = [
            shard for shard in _missing_shards(opened, images, counts, per_image) if _owner(shard, world_size) == rank
        ]
        existing = [shard for shard in _shards_of(shards, images) if _owner(shard, world_size) == rank]
        new_images = sorted({image for shard in missing for image in shard.images})
        check_readable(root, new_images)
        hashes = _image_hashes(root, sorted({*new_images, *_images_of(existing, images)}))
        _check_unchanged(opened, shards, hashes)
        sizes = image_sizes(root, new_images, identity.decoding)
        missing = [
            replace(shard, sha256=[hashes[image] for image in shard.images],
                    sizes=[sizes[image] for image in shard.images])
            for shard in missing
        ]  # fmt: skip

        def make_pipeline(size: int, count: int) -> RegionPipeline:
            return build_pipeline(
                pipeline, root, size, batch_size, place, workers, count, dali_device, identity.decoding
            )

        writer = BankWriter(opened, identity, teacher, student, prompts, make_pipeline, cost)
        total = sum(len(shard.images) * shard.count for shard in missing)
        hidden = None if total and rank == 0 else True  # None: shown on a terminal only
        with tqdm(total=total, unit="region", desc="Labelling regions", disable=hidden) as progress:
            writer.write_shards(missing, progress)
        writer.add_features(existing)
        if prompts and rank == 0:
            writer.add_text()
    labelled_before = sum(image in counts for image in images)
    regions_made, features_made = distributed.all_reduce_sum(writer.regions_made, writer.features_made)
    return GenerationReport(opened.folder, len(images), labelled_before, regions_made, features_made)


@contextmanager
def _exclusive_access(bank: Path) -> Iterator[None]:
    """Lock the bank in the main process; the other processes of a torchrun enter and leave together with it."""
    if distributed.rank() == 0:
        with file_lock(bank / ".lock", f"Waiting for another process that generates {bank}"):
            clean_partial_files(bank)
            distributed.barrier()
            yield
            distributed.barrier()
    else:
        distributed.barrier()
        yield
        distributed.barrier()


def _region_counts(shards: list[Shard]) -> dict[str, int]:
    """Return the number of consecutive regions, from number 0 on, that the bank holds of each image."""
    counts: dict[str, int] = {}
    for shard in shards:  # sorted by first region number
        for image in shard.images:
            if counts.get(image, 0) == shard.first:
                counts[image] = shard.first + shard.count
    return counts


def _missing_shards(bank: RegionBank, images: list[str], counts: dict[str, int], per_image: int) -> Iterator[Shard]:
    """Return the shards to generate; earlier interruptions do not change how images are divided into shards."""
    groups: dict[int, list[str]] = {}
    for image in images:
        if counts.get(image, 0) < per_image:
            groups.setdefault(counts.get(image, 0), []).append(image)
    for first, members in sorted(groups.items()):
        count = per_image - first
        step = max(1, REGIONS_PER_SHARD // count)
        for start in range(0, len(members), step):
            chunk = members[start : start + step]
            yield Shard(bank.folder / bank.shard_name(chunk, first, count), chunk, [], [], first, count)


def _owner(shard: Shard, world_size: int) -> int:
    """Return the rank that generates a shard; it depends on the name only, so that all processes agree."""
    return int(shard.file.stem.rpartition("-")[2], 16) % world_size


def _shards_of(shards: list[Shard], images: list[str]) -> list[Shard]:
    needed = set(images)
    return [shard for shard in shards if not needed.isdisjoint(shard.images)]


def _images_of(shards: list[Shard], images: list[str]) -> set[str]:
    return {image for shard in shards for image in shard.images} & set(images)


def _image_hashes(root: Path, images: list[str]) -> dict[str, str]:
    def sha256(image: str) -> str:
        try:
            return hashlib.sha256((root / image).read_bytes()).hexdigest()
        except OSError as error:
            raise UserError(f"Cannot read the image {root / image} ({error.strerror}). Restore it.") from error

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(images, pool.map(sha256, images), strict=True))


def _check_unchanged(bank: RegionBank, shards: list[Shard], hashes: dict[str, str]) -> None:
    changed = sorted(
        {image for shard in shards for image, sha in zip(shard.images, shard.sha256, strict=True)
         if image in hashes and hashes[image] != sha}
    )  # fmt: skip
    if changed:
        raise UserError(
            f"{len(changed)} images have changed since {bank.folder} was generated ({', '.join(changed[:3])} ...). "
            "Restore them or delete that bank."
        )


def _versions() -> dict[str, str]:
    """Return the versions of the installed packages that a bank's content may depend on."""
    versions = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
