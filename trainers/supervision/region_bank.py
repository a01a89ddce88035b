"""Supervision from the region bank (RIL): what a teacher said of stored regions, looked up. No teacher, no labels.

With text-only prompts the student's image tower is frozen as well, so its feature of a stored region is a constant and
is looked up too (REGIONS.FEATURES): training then decodes no image. Otherwise the regions are cut from the image files.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.distributed import barrier, share, world_size
from fdbpl.errors import UserError
from fdbpl.pipelines import BACKENDS, RegionRequests, build_pipeline
from fdbpl.regions import BankIdentity, RegionLookup, epoch_regions, generate
from fdbpl.regions.bank import RegionBank as BankOnDisk
from fdbpl.regions.generate import top_k
from fdbpl.regions.identity import SCHEMA, digest, read_identity

from . import teacher
from .supervision import Supervision
from .view import View

REMEDY = "label them: bash scripts/generate_regions.sh with the same data set, seed and trainer"


def extend_cfg(cfg: CfgNode) -> None:
    cfg.REGIONS = CfgNode()
    cfg.REGIONS.ROOT = "output/regions"  # folder of all banks
    cfg.REGIONS.PER_IMAGE = 50  # regions of each image
    cfg.REGIONS.SCALE = (0.08, 0.936)  # range of a region's share of the area
    cfg.REGIONS.RATIO = (3 / 4, 4 / 3)  # range of its width over its height
    cfg.REGIONS.FLIP = 0.5  # probability of mirroring
    cfg.REGIONS.SEED = 1  # of the regions' draw; runs of all seeds share one bank
    cfg.REGIONS.CONTENT = "embedding"  # embedding | topk:K (probabilities of a fixed class list, for very large sets)
    cfg.REGIONS.PIPELINE = "auto"  # auto | dali | torchvision
    cfg.REGIONS.FEATURES = True  # look the student's image features up as well, where its image tower is frozen
    cfg.REGIONS.GENERATE = False  # True: label what is missing when training starts (the plug-in for forks)
    cfg.REGIONS.BATCH_SIZE = 256  # regions per forward pass of the teacher


class RegionBatches:
    """One pass over the training images an epoch, each with one of its regions, in the order of `epoch_regions`.

    As in Dassl's training loader a last partial batch is left out, unless it is the only one.

    Yields:
        dicts of image_index, region and index (int64 [b]) and impath (list of b paths relative to the data root).
    """

    def __init__(self, images: list[str], per_image: int, batch_size: int, seed: int):
        self.images, self.per_image, self.seed = images, per_image, max(seed, 0)
        self.batch_size = min(batch_size, len(images))
        self.epoch = 0
        self.pixels: Callable[..., Iterator[tuple]] | None = None  # set where regions have to be cut from the files

    def __len__(self) -> int:
        return len(self.images) // self.batch_size

    def __iter__(self) -> Iterator[dict]:
        order, region = epoch_regions(len(self.images), self.per_image, self.epoch, self.seed)
        used = len(self) * self.batch_size
        order, region = torch.from_numpy(order[:used]), torch.from_numpy(region[:used])
        for rows, images in self._parts(order, region):
            batch = {"image_index": order[rows], "region": region[rows], "index": order[rows]}
            batch["impath"] = [self.images[number] for number in order[rows].tolist()]
            yield batch if images is None else {**batch, "img": images}

    def _parts(self, order: torch.Tensor, region: torch.Tensor) -> Iterator[tuple]:
        if self.pixels is not None:
            yield from self.pixels(order, region)
            return
        for rows in torch.arange(len(order)).split(self.batch_size):
            yield rows, None


class RegionBank(Supervision):
    """The bank of (data set, teacher, crop distribution) that the configuration names. Opened when training starts."""

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        teacher.check_cfg(cfg)
        regions = cfg.REGIONS
        for key, allowed, expected in (
            ("PER_IMAGE", regions.PER_IMAGE >= 1, "of at least 1"),
            ("BATCH_SIZE", regions.BATCH_SIZE >= 1, "of at least 1"),
            ("FLIP", 0 <= regions.FLIP <= 1, "from 0.0 to 1.0"),
            ("SCALE", _is_range(regions.SCALE) and regions.SCALE[1] <= 1, "to be a range above 0.0 and up to 1.0"),
            ("SEED", regions.SEED >= 0, "of at least 0"),
            ("PIPELINE", regions.PIPELINE in BACKENDS, f"of {', '.join(BACKENDS)}"),
            ("RATIO", _is_range(regions.RATIO), "to be a range above 0.0"),
        ):
            if not allowed:
                raise UserError(f"expected REGIONS.{key} {expected}, found {regions[key]!r}; set another")
        if regions.CONTENT != "embedding":
            top_k(regions.CONTENT, 1)

    @classmethod
    def region_bank_plan(cls, cfg: CfgNode, dataset, frozen_image_tower: bool) -> dict:
        """What has to be in the bank before a run of `cfg`. A teacher is built only where no bank of it exists."""
        cls.check_cfg(cfg)
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        root, images = training_images(cfg, dataset)
        text = teacher.template(cfg, dataset)
        names = getattr(dataset, "all_classnames", None) or dataset.classnames

        @cache
        def load_teacher() -> Backbone:
            return teacher.load_teacher(cfg, dataset, device)

        banks = matching_banks(cfg, dataset)
        if banks:  # its manifest says who the teacher is; `generate` checks the weights if it has to build it
            identity = BankIdentity(**read_identity(one_of(banks, cfg)))
        else:
            identity = identity_of(cfg, dataset, load_teacher())

        looked_up = cfg.REGIONS.FEATURES and frozen_image_tower
        return {
            "root": root,
            "images": images,
            "bank": bank_root(cfg, dataset) / identity.folder_name(),
            "identity": identity,
            "teacher": load_teacher,
            "per_image": cfg.REGIONS.PER_IMAGE,
            "student": (lambda: load_backbone(cfg.MODEL.BACKBONE.NAME, device)) if looked_up else None,
            "prompts": teacher.prompts(text, dataset.classnames if is_topk(cfg) else names),
            "pipeline": cfg.REGIONS.PIPELINE,
            "device": device,
            "batch_size": cfg.REGIONS.BATCH_SIZE,
        }

    def train_loader(self, loader, student_class) -> RegionBatches:
        self.root, self.images = training_images(self.cfg, self.dataset)
        self.look_up_features = self.cfg.REGIONS.FEATURES and student_class.frozen_image_tower
        self.batches = RegionBatches(
            self.images, self.cfg.REGIONS.PER_IMAGE, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE, self.cfg.SEED
        )
        return self.batches

    @property
    def folder(self) -> Path:
        """The bank of this configuration."""
        banks = matching_banks(self.cfg, self.dataset)
        if not banks:
            there = [folder.name for folder in all_banks(self.cfg, self.dataset)]
            raise UserError(
                f"expected a region bank of {self.cfg.TEACHER.NAME} in {bank_root(self.cfg, self.dataset)}, found "
                f"{'none' if not there else 'only ' + ', '.join(there)}; {REMEDY}"
            )
        return one_of(banks, self.cfg)

    def class_features(self) -> torch.Tensor:
        """The teacher's unit features of the data set's classes, as the bank keeps them: float32 [C, D]."""
        text = teacher.template(self.cfg, self.dataset)
        return BankOnDisk.open(self.folder).text_features(teacher.prompts(text, self.dataset.classnames))

    def prepare(self, student):
        if self.cfg.REGIONS.GENERATE:
            print(generate(**self.region_bank_plan(self.cfg, self.dataset, student.frozen_image_tower)))
            barrier()
        folder = self.folder
        text = teacher.template(self.cfg, self.dataset)
        backbone = student.backbone
        self.lookup = RegionLookup(
            folder,
            self.images,
            self.cfg.REGIONS.PER_IMAGE,
            teacher.prompts(text, self.dataset.classnames),
            (backbone.name, backbone.sha256) if self.look_up_features else None,
        )
        if not self.look_up_features:
            self.pipeline = build_pipeline(
                self.cfg.REGIONS.PIPELINE, self.root, backbone.image_size,
                -(-self.batches.batch_size // world_size()), str(self.device), self.cfg.DATALOADER.NUM_WORKERS,
            )  # fmt: skip
            self.batches.pixels = self._cut_regions
        looked_up = "teacher and student" if self.look_up_features else "teacher"
        print(f"Region bank: {folder} ({looked_up} looked up, {len(self.images)} images)")
        return student

    def start_epoch(self, epoch: int) -> None:
        self.batches.epoch = epoch

    def read(self, batch: dict) -> View:
        image, region = batch["image_index"], batch["region"]
        logits = self.lookup.teacher_logits(image, region).to(self.device, non_blocking=True)
        view = View(teacher_logits=logits)
        if is_topk(self.cfg):  # kept from the full distribution, of which the logits hold only the top
            view = view._replace(entropy=self.lookup.entropy(image, region).to(self.device, non_blocking=True))
        if self.look_up_features:
            features = self.lookup.student_features(image, region).to(self.device, non_blocking=True)
            return view._replace(image_features=features)
        return view._replace(images=batch["img"].to(self.device, non_blocking=True), total=len(image))

    def _cut_regions(self, order: torch.Tensor, region: torch.Tensor) -> Iterator[tuple]:
        """Rows of each batch, all of them, and the pixels of this process's share."""
        batches = torch.arange(len(order)).split(self.batches.batch_size)
        mine = torch.cat([share(rows) for rows in batches])
        order, region = order[mine], region[mine]
        requests = RegionRequests(
            self.images,
            order.numpy(),
            np.asarray(self.lookup.boxes(order, region), np.float32),
            np.asarray(self.lookup.flips(order, region), bool),
        )
        for rows, (_, images) in zip(batches, self.pipeline(requests), strict=True):
            yield rows, images


def training_images(cfg: CfgNode, dataset) -> tuple[Path, list[str]]:
    """Data root and the training images' paths below it, in the order of `dataset.train_x`."""
    root = Path(getattr(dataset, "root", None) or cfg.DATASET.ROOT).expanduser().absolute()
    paths = [Path(os.path.relpath(Path(item.impath).absolute(), root)).as_posix() for item in dataset.train_x]
    outside = [path for path in paths if path.startswith("..")]
    if outside:
        raise UserError(f"expected training images below {root}, found {outside[0]}; give the folder above as --root")
    return root, paths


def _is_range(values: tuple) -> bool:
    return len(values) == 2 and 0 < values[0] <= values[1]


def is_topk(cfg: CfgNode) -> bool:
    return cfg.REGIONS.CONTENT.startswith("topk:")


def dataset_folder(cfg: CfgNode, dataset) -> str:
    """The data set's folder below the data root, which names it in banks."""
    folder = str(dataset.dataset_dir)
    if os.path.isabs(folder):
        root = Path(getattr(dataset, "root", None) or cfg.DATASET.ROOT).expanduser().absolute()
        folder = os.path.relpath(folder, root)
    return folder


def bank_root(cfg: CfgNode, dataset) -> Path:
    return Path(cfg.REGIONS.ROOT, dataset_folder(cfg, dataset))


def wanted(cfg: CfgNode, dataset) -> dict:
    """What the configuration says of a bank's identity; weights only where their hash is known without loading them."""
    regions = cfg.REGIONS
    fields = {
        "schema": SCHEMA,
        "dataset": dataset_folder(cfg, dataset),
        "teacher": cfg.TEACHER.NAME,
        "scale": tuple(regions.SCALE),
        "ratio": tuple(regions.RATIO),
        "flip": regions.FLIP,
        "seed": regions.SEED,
        "content": regions.CONTENT,
        "classes": digest(teacher.prompts(teacher.template(cfg, dataset), dataset.classnames)) if is_topk(cfg) else "",
    }
    sha256 = teacher.teacher_sha256(cfg)
    return fields if sha256 is None else {**fields, "teacher_sha256": sha256}


def identity_of(cfg: CfgNode, dataset, model: Backbone) -> BankIdentity:
    """The identity of the bank that `model` makes under this configuration."""
    return BankIdentity(
        **{
            **wanted(cfg, dataset),
            "teacher_sha256": model.sha256,
            "logit_scale": model.logit_scale,
            "size": model.image_size,
            "mean": tuple(model.mean),
            "std": tuple(model.std),
        }
    )


def stored_class_features(cfg: CfgNode, texts: list[str]) -> torch.Tensor | None:
    """The teacher's unit features of C texts, float32 [C, D], from any bank of it, whatever its data set.

    None where no bank holds them all, or where only building the teacher tells whose a bank is.
    """
    fields = {"teacher": cfg.TEACHER.NAME, "teacher_sha256": teacher.teacher_sha256(cfg)}
    for manifest in sorted(Path(cfg.REGIONS.ROOT).rglob("manifest.json")):
        with suppress(UserError):  # a broken bank, or one without these texts
            stored = read_identity(manifest.parent)
            if all(stored.get(key) == value for key, value in fields.items()):
                return BankOnDisk.open(manifest.parent).text_features(texts)
    return None


def all_banks(cfg: CfgNode, dataset) -> list[Path]:
    return sorted(manifest.parent for manifest in bank_root(cfg, dataset).glob("*/manifest.json"))


def matching_banks(cfg: CfgNode, dataset) -> list[Path]:
    """Banks whose manifests agree with the configuration; the teacher itself is not needed to tell."""
    fields = json.loads(json.dumps(wanted(cfg, dataset)))

    def agrees(stored: dict) -> bool:
        return all(stored.get(key) == value for key, value in fields.items())

    return [folder for folder in all_banks(cfg, dataset) if agrees(read_identity(folder))]


def one_of(banks: list[Path], cfg: CfgNode) -> Path:
    if len(banks) > 1:
        raise UserError(
            f"expected one region bank of {cfg.TEACHER.NAME}, found {len(banks)} of different weights "
            f"({', '.join(bank.name for bank in banks)}); move all but one away"
        )
    return banks[0]
