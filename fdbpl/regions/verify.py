"""Verification of a region bank: files against their checksums and the manifest, a sample against the teacher.

Every file must be named after its content, match its checksum, and hold the regions that the manifest's seed samples.
The teacher runs again on a sample of regions and prompts.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.crops import sample_crops
from fdbpl.errors import UserError
from fdbpl.findings import NOTE, OK, WRONG, Finding
from fdbpl.io.image_reading import Decoding
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.cost import read_cost
from fdbpl.regions.metadata import BankMetadata, digest
from fdbpl.regions.shard import DECODERS, HEADER_KEYS, Shard, content_checksum, parse_decoder

REMEDY = "Delete that file and run the generation again."
FOLDER_DIGEST = re.compile(r"_seed\d+_(embedding|topk-\d+)_([0-9a-f]{8})")
TOP_K_TOLERANCE = 10  # tolerance of a probability, as a multiple of that of an embedding's component
INVALID = (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Sample:
    """Settings of the comparison with the teacher.

    Attributes:
        root: data root of the bank. regions: number of regions that are compared.
        tolerance: largest deviation of a component of an embedding, which has unit length.
        batch_size: regions in a forward pass.
    """

    root: Path
    regions: int = 64
    tolerance: float = 5e-3
    device: str = "cpu"
    batch_size: int = 64


def verify_bank(folder: Path, sample: Sample, images: list[str] | None = None) -> Iterator[Finding]:
    """Verify the bank in `folder`.

    Args:
        images: images that the bank must hold regions of, relative to the data root; None = no requirement.

    Raises:
        UserError: there is no bank, or its teacher cannot be loaded.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").is_file() and any(folder.glob("regions-*.safetensors")):
        yield Finding(WRONG, folder / "manifest.json", "the manifest is missing. Restore it, or generate another bank.")
        return
    bank = RegionBank.open(folder)
    named = FOLDER_DIGEST.search(folder.name)
    if named and digest(bank.identity)[:8] != named[2]:
        message = "the manifest does not match the name of its folder. Restore it, or generate another bank."
        yield Finding(WRONG, folder / "manifest.json", message)
        return
    shards, broken = [], 0
    for file in sorted(folder.glob("regions-*.safetensors")):
        try:
            shards.append(_read_shard(bank, file))
        except _InvalidFile as error:
            broken += 1
            yield Finding(WRONG, file, str(error))
    for finding in (*_check_features(bank, shards), *_check_texts(bank)):
        broken += finding.mark == WRONG
        yield finding
    if broken:
        return  # coverage and deviations would be misleading
    files = len(list(folder.rglob("*.safetensors")))
    yield Finding(OK, folder, f"{files} files match their names and checksums")
    yield from _check_coverage(bank, shards, images)
    if shards:
        yield _compare_with_teacher(bank, shards, sample)


class _InvalidFile(Exception):
    """A file of the bank is invalid; the message says why."""


# files -------------------------------------------------------------------------------------------------------------


def _read_shard(bank: RegionBank, file: Path) -> Shard:
    """Read and check all of a shard."""
    tensors, header = _read(file)
    try:
        images, first, count = header["images"], header["first"], header["count"]
        sizes = [tuple(hw) for hw in header["sizes"]]
        shard = Shard(file, images, header["sha256"], sizes, first, count, parse_decoder(header))
        if unknown := header.keys() - HEADER_KEYS:
            raise _InvalidFile(f"its header has the unknown key {min(unknown)!r:.40}. {REMEDY}")
        if header.get("bank", own := digest(bank.identity)) != own:
            raise _InvalidFile(f"its header names another bank. {REMEDY}")
        if file.name != bank.shard_name(images, first, count):
            raise _InvalidFile(f"it holds the content of {bank.shard_name(images, first, count)}. {REMEDY}")
        kind = bank.identity
        distribution = (kind["scale"], kind["ratio"], kind["flip"])
        regions = [sample_crops(kind["seed"], image, first, count, size, *distribution)
                   for image, size in zip(images, shard.sizes, strict=True)]  # fmt: skip
        boxes = np.concatenate([of_image.boxes for of_image in regions])
        flips = np.concatenate([of_image.flips for of_image in regions])
        if not np.array_equal(boxes, tensors["boxes"]) or not np.array_equal(flips, tensors["flips"]):
            raise _InvalidFile(f"its regions are not those that seed {kind['seed']} samples. {REMEDY}")
    except INVALID as error:
        raise _InvalidFile(f"its header is broken ({type(error).__name__}: {error}). {REMEDY}") from error
    return shard


def _read(file: Path) -> tuple[dict[str, Tensor], dict]:
    """Read the tensors and the header of a file and compare the checksum."""
    try:
        with safe_open(file, "pt") as content:
            header = json.loads(content.metadata()["shard"])
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
        if content_checksum(tensors) == header["payload"]:
            return tensors, header
    except INVALID as error:
        raise _InvalidFile(f"it cannot be read ({type(error).__name__}: {error}). {REMEDY}") from error
    raise _InvalidFile(f"its checksum does not match. {REMEDY}")


def _check_features(bank: RegionBank, shards: list[Shard]) -> Iterator[Finding]:
    """Check the files of all students' features."""
    rows = {shard.file.name: len(shard.images) * shard.count for shard in shards}
    students: dict[Path, str] = {}
    for file in sorted(bank.folder.glob("features/*/*.safetensors")):
        try:
            tensors, header = _read(file)
        except _InvalidFile as error:
            yield Finding(WRONG, file, str(error))
            continue
        own = {key: header[key] for key in ("bank", "student", "shard") if key in header}  # older files lack them
        regions, student = own.get("shard", file.name), own.get("student", "")
        same = students.setdefault(file.parent, student) == student
        odd = header.keys() - {*own, "decoder", "payload"} or header.get("decoder", "") not in DECODERS
        if odd or len(own) not in (0, 3) or not same or own.get("bank", digest(bank.identity)) != digest(bank.identity):
            yield Finding(WRONG, file, f"it belongs to another bank or student, or its header is broken. {REMEDY}")
        elif regions != file.name or not file.parent.name.endswith(student[:8]):
            yield Finding(WRONG, file, f"it holds the features of student {student[:8]} for {regions}. {REMEDY}")
        elif not (bank.folder / file.name).is_file():
            yield Finding(WRONG, file, "the shard of its regions is missing. Run the generation again.")
        elif len(tensors["features"]) != rows.get(file.name, len(tensors["features"])):
            message = f"it holds features of {len(tensors['features'])} of {rows[file.name]} regions. {REMEDY}"
            yield Finding(WRONG, file, message)


def _check_texts(bank: RegionBank) -> Iterator[Finding]:
    for file in sorted(bank.folder.glob("text/*.safetensors")):
        try:
            bank.read_text(file)
        except UserError as error:
            yield Finding(WRONG, file, str(error))


# coverage ----------------------------------------------------------------------------------------------------------


def _check_coverage(bank: RegionBank, shards: list[Shard], images: list[str] | None) -> Iterator[Finding]:
    """Check that every image has all regions from number 0 on, and that required images are there."""
    counts: dict[str, int] = {}
    gaps = set()
    for shard in sorted(shards, key=lambda shard: shard.order):
        for image in shard.images:
            if counts.get(image, 0) < shard.first:
                gaps.add(image)
            counts[image] = max(counts.get(image, 0), shard.first + shard.count)
    missing = sorted({*gaps, *(set(images or ()) - counts.keys())})
    if missing:
        message = f"regions of {len(missing)} images are missing ({missing[0]} ...). Run the generation again."
        yield Finding(WRONG, bank.folder, message)
    regions = sum(len(shard.images) * shard.count for shard in shards)
    generated = int(read_cost(bank.folder)["regions"])
    if generated > regions:  # a shard was deleted
        message = f"{generated} regions were generated, {regions} are present. Use --images to find missing images."
        yield Finding(NOTE, bank.folder, message)
    numbers = sorted(set(counts.values()))
    each = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}" if numbers else "no"
    yield Finding(OK, bank.folder, f"{regions} regions of {len(counts)} images, {each} of each, sampled by its seed")


# teacher -----------------------------------------------------------------------------------------------------------


def _compare_with_teacher(bank: RegionBank, shards: list[Shard], sample: Sample) -> Finding:
    """Run the teacher on some regions and prompts and compare its outputs with the bank's."""
    teacher = _load_teacher(bank.identity, sample.device)
    if teacher.sha256 != bank.identity["teacher_sha256"]:
        message = (
            f"the bank's teacher has the SHA-256 {bank.identity['teacher_sha256'][:12]}..., but "
            f"{bank.identity['teacher']} has {teacher.sha256[:12]}... here. Restore the teacher's weights, or generate "
            "another bank."
        )
        return Finding(WRONG, bank.folder, message)
    rows = _sample_rows(shards, sample.regions)
    changed = sorted({
        shards[number].images[row // shards[number].count] for number, row in rows
        if not _is_unchanged(shards[number], row // shards[number].count, sample.root)
    })  # fmt: skip
    if changed:
        message = f"{len(changed)} images have changed or are missing ({changed[0]} ...). Restore them or check --root."
        return Finding(WRONG, bank.folder, message)
    stored, embeddings = _stored_and_recomputed(shards, rows, teacher, sample, BankMetadata(**bank.identity).decoding)
    deviations = [_deviation(bank, stored, embeddings)]
    if not bank.identity["teacher"].startswith("run:"):  # a trained run's prompts depend on the data set
        deviations += _text_deviations(bank, teacher, sample.regions)
    deviation = torch.stack(deviations).max().item()  # nan if any deviation is nan
    limit = sample.tolerance * (1 if bank.identity["content"] == "embedding" else TOP_K_TOLERANCE)
    result = f"largest deviation {deviation:.1e} (tolerance {limit:.1e})"
    if deviation <= limit:
        return Finding(OK, bank.folder, f"{len(rows)} regions agree with the teacher: {result}")
    if any(shards[number].decoder == "nvjpeg" for number, _ in rows):
        result += ", images decoded by nvJPEG in the bank and by Pillow here"
    message = f"{len(rows)} regions do NOT agree with the teacher: {result}. Delete that bank and generate it again."
    return Finding(WRONG, bank.folder, message)


def _load_teacher(identity: dict, device: str) -> Backbone:
    precision = BankMetadata(**identity).precision
    # float16 needs a GPU; float32 deviates from it by far less than the tolerance
    return load_backbone(identity["teacher"], device, "fp32" if precision == "fp16" and device == "cpu" else precision)


def _sample_rows(shards: list[Shard], regions: int) -> list[tuple[int, int]]:
    """Return sorted (shard number, row) of some regions, sampled uniformly over all shards."""
    ends = np.cumsum([len(shard.images) * shard.count for shard in shards])
    rows = np.random.default_rng(0).choice(ends[-1], min(regions, ends[-1]), replace=False)
    numbers = np.searchsorted(ends, rows, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    return sorted(zip(numbers.tolist(), (rows - starts[numbers]).tolist(), strict=True))


def _is_unchanged(shard: Shard, place: int, root: Path) -> bool:
    try:
        return hashlib.sha256((root / shard.images[place]).read_bytes()).hexdigest() == shard.sha256[place]
    except OSError:
        return False


def _stored_and_recomputed(
    shards: list[Shard], rows: list[tuple[int, int]], teacher: Backbone, sample: Sample, decoding: Decoding
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the bank's tensors at the given rows, and the teacher's embeddings of the same regions: float32 [R, D]."""
    parts: dict[str, list[Tensor]] = {}
    for number in sorted({number for number, _ in rows}):
        in_shard = [row for other, row in rows if other == number]
        for name, tensor in _read(shards[number].file)[0].items():
            parts.setdefault(name, []).append(tensor[in_shard])
    stored = {name: torch.cat(tensors) for name, tensors in parts.items()}
    paths = [shards[number].images[row // shards[number].count] for number, row in rows]
    requests = RegionRequests(paths, np.arange(len(paths)), stored["boxes"].numpy(), stored["flips"].numpy())
    embeddings = torch.empty(len(paths), teacher.embed_dim)
    pipeline = build_pipeline("torchvision", sample.root, teacher.image_size, sample.batch_size, decoding=decoding)
    for index, pixels in pipeline(requests):
        embeddings[index] = teacher.encode_image(pixels).cpu()
    return stored, embeddings


def _deviation(bank: RegionBank, stored: dict[str, Tensor], embeddings: Tensor) -> Tensor:
    """Return the largest deviation of stored outputs; nan if the bank lacks the class list of its probabilities."""
    if bank.identity["content"] == "embedding":
        return (stored["embeddings"].float() - embeddings).abs().max()
    classes = next((texts for texts in bank.prompt_lists() if digest(texts) == bank.identity["classes"]), None)
    if classes is None:
        return torch.tensor(torch.nan)
    logits = bank.identity["logit_scale"] * embeddings @ bank.text_features(classes).T
    probabilities = logits.softmax(-1).gather(1, stored["classes"].long())
    return (stored["probabilities"].float() - probabilities).abs().max()


def _text_deviations(bank: RegionBank, teacher: Backbone, count: int) -> list[Tensor]:
    """Return the largest deviation of the text features of the first prompts of each list."""
    lists = [texts[:count] for texts in bank.prompt_lists()]
    return [(bank.text_features(texts) - teacher.encode_text(texts).cpu()).abs().max() for texts in lists]
