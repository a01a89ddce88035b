"""Does a region bank still hold what was written, and would its teacher say the same again?

Every file: its name says what it holds, its bytes have the checksum they were written with, its regions are those that
the manifest's seed draws. A sample: the teacher is asked again.
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
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.cost import read_cost
from fdbpl.regions.metadata import BankMetadata, digest
from fdbpl.regions.shard import DECODERS, KEYS, Shard, content_checksum, decoder_of

AGAIN = "delete that file and run the generation again"
NAMED_BY_IDENTITY = re.compile(r"_seed\d+_(embedding|topk-\d+)_([0-9a-f]{8})")
PROBABILITY = 10  # a probability may deviate by so many times as much as an embedding's component
BROKEN = (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Sample:
    """How the teacher is asked again.

    Attributes:
        root: data root of the bank. regions: how many.
        tolerance: largest deviation of a component of an embedding, which is of unit length.
        batch_size: regions per forward pass.
    """

    root: Path
    regions: int = 64
    tolerance: float = 5e-3
    device: str = "cpu"
    batch_size: int = 64


def verify_bank(folder: Path, sample: Sample, images: list[str] | None = None) -> Iterator[Finding]:
    """Everything there is to say of the bank in `folder`.

    Args:
        images: that the bank has to have regions of, relative to the data root; None = whatever it has.

    Raises:
        UserError: there is no bank, or its teacher is not at hand.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").is_file() and any(folder.glob("regions-*.safetensors")):
        yield Finding(WRONG, folder / "manifest.json", "it is missing; restore it, or move the bank away, make another")
        return
    bank = RegionBank.open(folder)
    named = NAMED_BY_IDENTITY.search(folder.name)
    if named and digest(bank.identity)[:8] != named[2]:
        yield Finding(WRONG, folder / "manifest.json", "it is not of the bank that the folder is named by; restore it")
        return
    shards, broken = [], 0
    for file in sorted(folder.glob("regions-*.safetensors")):
        try:
            shards.append(_whole_shard(bank, file))
        except _Broken as error:
            broken += 1
            yield Finding(WRONG, file, str(error))
    for finding in (*_features(bank, shards), *_texts(bank)):
        broken += finding.mark == WRONG
        yield finding
    if broken:
        return  # neither what is there nor what the teacher says of it can be told yet
    files = len(list(folder.rglob("*.safetensors")))
    yield Finding(OK, folder, f"{files} files are named after what they hold and have their checksums")
    yield from _coverage(bank, shards, images)
    if shards:
        yield _asked_again(bank, shards, sample)


class _Broken(Exception):
    """What is wrong with a file."""


# files -------------------------------------------------------------------------------------------------------------


def _whole_shard(bank: RegionBank, file: Path) -> Shard:
    """The shard in `file`, all of which was looked at."""
    tensors, header = _read(file)
    try:
        images, first, count = header["images"], header["first"], header["count"]
        sizes = [tuple(hw) for hw in header["sizes"]]
        shard = Shard(file, images, header["sha256"], sizes, first, count, decoder_of(header))
        if strange := header.keys() - KEYS:
            raise _Broken(f"its description holds the unknown key {min(strange)!r:.40}; {AGAIN}")
        if header.get("bank", own := digest(bank.identity)) != own:
            raise _Broken(f"it says that it is of another bank; {AGAIN}")
        if file.name != bank.shard_name(images, first, count):
            raise _Broken(f"it holds what belongs to {bank.shard_name(images, first, count)}; {AGAIN}")
        kind = bank.identity
        draw = (kind["scale"], kind["ratio"], kind["flip"])
        drawn = [sample_crops(kind["seed"], image, first, count, size, *draw)
                 for image, size in zip(images, shard.sizes, strict=True)]  # fmt: skip
        boxes, flips = (np.concatenate([getattr(part, name) for part in drawn]) for name in ("boxes", "flips"))
        if not np.array_equal(boxes, tensors["boxes"]) or not np.array_equal(flips, tensors["flips"]):
            raise _Broken(f"its regions are not those that seed {kind['seed']} draws; {AGAIN}")
    except BROKEN as error:
        raise _Broken(f"its description is broken ({type(error).__name__}: {error}); {AGAIN}") from error
    return shard


def _read(file: Path) -> tuple[dict[str, Tensor], dict]:
    """The tensors of a file and its description, if the checksum in the one is that of the others."""
    try:
        with safe_open(file, "pt") as content:
            header = json.loads(content.metadata()["shard"])
            tensors = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
        if content_checksum(tensors) == header["payload"]:
            return tensors, header
    except BROKEN as error:
        raise _Broken(f"it cannot be read ({type(error).__name__}: {error}); {AGAIN}") from error
    raise _Broken(f"the bytes are not those that were written; {AGAIN}")


def _features(bank: RegionBank, shards: list[Shard]) -> Iterator[Finding]:
    """Of every student's files those that do not belong where they lie."""
    rows = {shard.file.name: len(shard.images) * shard.count for shard in shards}
    students: dict[Path, str] = {}
    for file in sorted(bank.folder.glob("features/*/*.safetensors")):
        try:
            tensors, header = _read(file)
        except _Broken as error:
            yield Finding(WRONG, file, str(error))
            continue
        own = {key: header[key] for key in ("bank", "student", "shard") if key in header}  # older files do not say
        regions, student = own.get("shard", file.name), own.get("student", "")
        same = students.setdefault(file.parent, student) == student
        odd = header.keys() - {*own, "decoder", "payload"} or header.get("decoder", "") not in DECODERS
        if odd or len(own) not in (0, 3) or not same or own.get("bank", digest(bank.identity)) != digest(bank.identity):
            yield Finding(WRONG, file, f"it is not of this bank and student, or its description is broken; {AGAIN}")
        elif regions != file.name or not file.parent.name.endswith(student[:8]):
            yield Finding(WRONG, file, f"it holds what student {student[:8]} sees in {regions}; {AGAIN}")
        elif not (bank.folder / file.name).is_file():
            yield Finding(WRONG, file, "the regions that it is about are missing; run the generation again")
        elif len(tensors["features"]) != rows.get(file.name, len(tensors["features"])):
            sentence = f"it has features of {len(tensors['features'])} of {rows[file.name]} regions; {AGAIN}"
            yield Finding(WRONG, file, sentence)


def _texts(bank: RegionBank) -> Iterator[Finding]:
    for file in sorted(bank.folder.glob("text/*.safetensors")):
        try:
            bank.read_text(file)
        except UserError as error:
            yield Finding(WRONG, file, str(error))


# what is there -----------------------------------------------------------------------------------------------------


def _coverage(bank: RegionBank, shards: list[Shard], images: list[str] | None) -> Iterator[Finding]:
    """Whether regions are missing: before others of their image, or of images that are asked for."""
    there: dict[str, int] = {}
    gaps = set()
    for shard in sorted(shards, key=lambda shard: shard.order):
        for image in shard.images:
            if there.get(image, 0) < shard.first:
                gaps.add(image)
            there[image] = max(there.get(image, 0), shard.first + shard.count)
    lacking = sorted({*gaps, *(set(images or ()) - there.keys())})
    if lacking:
        sentence = f"regions of {len(lacking)} images are missing ({lacking[0]} ...); run the generation again"
        yield Finding(WRONG, bank.folder, sentence)
    regions = sum(len(shard.images) * shard.count for shard in shards)
    made = int(read_cost(bank.folder)["regions"])
    if made > regions:  # a deleted file, or two processes that made the same one at a time
        sentence = f"{made} regions were labelled in it and {regions} are here; --images tells whether any is missing"
        yield Finding(NOTE, bank.folder, sentence)
    counts = sorted(set(there.values()))
    each = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}" if counts else "no"
    yield Finding(OK, bank.folder, f"{regions} regions of {len(there)} images, {each} of each, drawn as its seed says")


# the teacher -------------------------------------------------------------------------------------------------------


def _asked_again(bank: RegionBank, shards: list[Shard], sample: Sample) -> Finding:
    """Whether the teacher says of some regions and prompts what the bank says."""
    teacher = _teacher(bank.identity, sample.device)
    if teacher.sha256 != bank.identity["teacher_sha256"]:
        sentence = (
            f"its teacher has the SHA-256 {bank.identity['teacher_sha256'][:12]}..., {bank.identity['teacher']} has "
            f"{teacher.sha256[:12]}... here; give the weights that it was made with, or make another bank"
        )
        return Finding(WRONG, bank.folder, sentence)
    chosen = _choose(shards, sample.regions)
    changed = sorted({
        shards[number].images[row // shards[number].count] for number, row in chosen
        if not _unchanged(shards[number], row // shards[number].count, sample.root)
    })  # fmt: skip
    if changed:
        found = f"{len(changed)} images are not the ones it was made from ({changed[0]} ...)"
        return Finding(WRONG, bank.folder, f"{found}; restore them, or check --root")
    stored, embeddings = _sampled(shards, chosen, teacher, sample)
    deviations = [_deviation(bank, stored, embeddings)]
    if not bank.identity["teacher"].startswith("run:"):  # whose sentences depend on the data set that is taught
        deviations += _text_deviations(bank, teacher, sample.regions)
    deviation = torch.stack(deviations).max().item()  # nan where one is
    limit = sample.tolerance * (1 if bank.identity["content"] == "embedding" else PROBABILITY)
    agrees = deviation <= limit
    found = f"largest deviation {deviation:.1e} (tolerance {limit:.1e})"
    if agrees:
        return Finding(OK, bank.folder, f"{len(chosen)} regions labelled again agree: {found}")
    if any(shards[number].decoder == "nvjpeg" for number, _ in chosen):
        found += ", images decoded by nvJPEG there and by Pillow here"
    sentence = f"{len(chosen)} regions labelled again do NOT agree: {found}; delete that bank and make it again"
    return Finding(WRONG, bank.folder, sentence)


def _teacher(identity: dict, device: str) -> Backbone:
    name = identity["teacher"]
    if not name.startswith("run:"):
        precision = BankMetadata(**identity).precision
        # float16 needs a GPU; float32 deviates from it by far less than the tolerance
        return load_backbone(name, device, "fp32" if precision == "fp16" and device == "cpu" else precision)
    from fdbpl.engine.prompted_teacher import TrainedTeacher

    return TrainedTeacher(name, "{}", device)


def _choose(shards: list[Shard], regions: int) -> list[tuple[int, int]]:
    """(shard, row) of some regions, in that order, spread over all of them."""
    ends = np.cumsum([len(shard.images) * shard.count for shard in shards])
    rows = np.random.default_rng(0).choice(ends[-1], min(regions, ends[-1]), replace=False)
    numbers = np.searchsorted(ends, rows, side="right")
    starts = np.concatenate([[0], ends[:-1]])
    return sorted(zip(numbers.tolist(), (rows - starts[numbers]).tolist(), strict=True))


def _unchanged(shard: Shard, place: int, root: Path) -> bool:
    try:
        return hashlib.sha256((root / shard.images[place]).read_bytes()).hexdigest() == shard.sha256[place]
    except OSError:
        return False


def _sampled(
    shards: list[Shard], chosen: list[tuple[int, int]], teacher: Backbone, sample: Sample
) -> tuple[dict[str, Tensor], Tensor]:
    """What the bank keeps of the chosen regions, and the teacher's embeddings of them: float32 [R, D]."""
    parts: dict[str, list[Tensor]] = {}
    for number in sorted({number for number, _ in chosen}):
        rows = [row for other, row in chosen if other == number]
        for name, tensor in _read(shards[number].file)[0].items():
            parts.setdefault(name, []).append(tensor[rows])
    stored = {name: torch.cat(tensors) for name, tensors in parts.items()}
    paths = [shards[number].images[row // shards[number].count] for number, row in chosen]
    requests = RegionRequests(paths, np.arange(len(paths)), stored["boxes"].numpy(), stored["flips"].numpy())
    embeddings = torch.empty(len(paths), teacher.embed_dim)
    for rows, pixels in build_pipeline("torchvision", sample.root, teacher.image_size, sample.batch_size)(requests):
        embeddings[rows] = teacher.encode_image(pixels).cpu()
    return stored, embeddings


def _deviation(bank: RegionBank, stored: dict[str, Tensor], embeddings: Tensor) -> Tensor:
    """The largest of what is stored of regions; nan where it cannot be told."""
    if bank.identity["content"] == "embedding":
        return (stored["embeddings"].float() - embeddings).abs().max()
    classes = next((texts for texts in bank.prompt_lists() if digest(texts) == bank.identity["classes"]), None)
    if classes is None:
        return torch.tensor(torch.nan)
    logits = bank.identity["logit_scale"] * embeddings @ bank.text_features(classes).T
    found = logits.softmax(-1).gather(1, stored["classes"].long())
    return (stored["probabilities"].float() - found).abs().max()


def _text_deviations(bank: RegionBank, teacher: Backbone, count: int) -> list[Tensor]:
    """The largest of the first prompts of each list."""
    lists = [texts[:count] for texts in bank.prompt_lists()]
    return [(bank.text_features(texts) - teacher.encode_text(texts).cpu()).abs().max() for texts in lists]
