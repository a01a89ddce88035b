"""Supervision from the region bank (RIL): what a teacher said of stored regions, looked up. No teacher, no labels.

What the student's frozen image tower says of a stored region is a constant as well, and is looked up too
(REGIONS.CACHE_STUDENT_FEATURES). With text-only prompts that is all: training decodes no image. With visual prompts
the regions are cut from the image files.
"""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.distributed import barrier, shard, world_size
from fdbpl.errors import UserError
from fdbpl.pipelines import BACKENDS, DALI_DEVICES, RegionRequests, build_pipeline
from fdbpl.regions.bank import RegionBank as BankOnDisk
from fdbpl.regions.generation import generate, top_k
from fdbpl.regions.lookup import RegionLookup
from fdbpl.regions.metadata import BankMetadata, read_identity
from fdbpl.templates import fill_template

from .. import teachers as teacher
from ..bank_discovery import (
    all_banks,
    bank_root,
    identity_of,
    is_topk,
    matching_banks,
    one_of,
    stored_class_features,
    training_images,
)
from ..batch import View
from ..student import Student
from .base import Supervision
from .region_batches import RegionBatches

REMEDY = "label them: bash scripts/generate_regions.sh with the same data set, seed and trainer"


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
            ("DALI_DEVICE", regions.DALI_DEVICE in DALI_DEVICES, f"of {', '.join(DALI_DEVICES)}"),
            ("RATIO", _is_range(regions.RATIO), "to be a range above 0.0"),
        ):
            if not allowed:
                raise UserError(f"expected REGIONS.{key} {expected}, found {regions[key]!r}; set another")
        if regions.TARGET != "embedding":
            top_k(regions.TARGET, 1)

    @classmethod
    def region_bank_plan(cls, cfg: CfgNode, dataset, student: Student | type[Student]) -> dict:
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
            identity = BankMetadata(**read_identity(one_of(banks, cfg)))
        else:
            identity = identity_of(cfg, dataset, load_teacher())

        load_student = partial(load_backbone, cfg.MODEL.BACKBONE.NAME, device)
        return {
            "root": root,
            "images": images,
            "bank": bank_root(cfg, dataset) / identity.folder_name(),
            "identity": identity,
            "teacher": load_teacher,
            "per_image": cfg.REGIONS.PER_IMAGE,
            "student": load_student if looks_up_features(cfg, student) else None,
            "prompts": fill_template(text, dataset.classnames if is_topk(cfg) else names),
            "pipeline": cfg.REGIONS.PIPELINE,
            "device": device,
            "batch_size": cfg.REGIONS.BATCH_SIZE,
            "workers": cfg.DATALOADER.NUM_WORKERS,
            "dali_device": cfg.REGIONS.DALI_DEVICE,
        }

    def train_loader(self, loader, student_class) -> RegionBatches:
        self.root, self.images = training_images(self.cfg, self.dataset)
        self.features_looked_up = looks_up_features(self.cfg, student_class)
        self.regions_cut = not (self.features_looked_up and student_class.frozen_image_tower)
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

    @classmethod
    def load_class_features(cls, cfg: CfgNode, dataset, device: torch.device) -> torch.Tensor:
        """Look the features up in a bank that holds them, else encode the class names with the teacher."""
        texts = fill_template(teacher.template(cfg, dataset), dataset.classnames)
        stored = stored_class_features(cfg, texts)
        return teacher.load_teacher(cfg, dataset, str(device)).encode_text(texts) if stored is None else stored

    def class_features(self) -> torch.Tensor:
        """The teacher's unit features of the data set's classes, as the bank keeps them: float32 [C, D]."""
        text = teacher.template(self.cfg, self.dataset)
        return BankOnDisk.open(self.folder).text_features(fill_template(text, self.dataset.classnames))

    def prepare(self, student):
        if self.cfg.REGIONS.GENERATE:
            print(generate(**self.region_bank_plan(self.cfg, self.dataset, student)))
            barrier()
        folder = self.folder
        text = teacher.template(self.cfg, self.dataset)
        backbone = student.backbone
        self.lookup = RegionLookup(
            folder,
            self.images,
            self.cfg.REGIONS.PER_IMAGE,
            fill_template(text, self.dataset.classnames),
            (backbone.name, backbone.sha256) if self.features_looked_up else None,
        )
        if self.regions_cut:
            self.pipeline = build_pipeline(
                self.cfg.REGIONS.PIPELINE, self.root, backbone.image_size,
                -(-self.batches.batch_size // world_size()), str(self.device), self.cfg.DATALOADER.NUM_WORKERS,
                dali_device=self.cfg.REGIONS.DALI_DEVICE,
            )  # fmt: skip
            self.batches.pixels = self._cut_regions
        looked_up = "teacher and student" if self.features_looked_up else "teacher"
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
        if self.features_looked_up:
            features = self.lookup.student_features(image, region).to(self.device, non_blocking=True)
            view = view._replace(image_features=features)
        if self.regions_cut:
            view = view._replace(images=batch["img"].to(self.device, non_blocking=True), total=len(image))
        return view

    def _cut_regions(self, order: torch.Tensor, region: torch.Tensor) -> Iterator[tuple]:
        """Rows of each batch, all of them, and the pixels of this process's share."""
        batches = torch.arange(len(order)).split(self.batches.batch_size)
        mine = torch.cat([shard(rows) for rows in batches])
        order, region = order[mine], region[mine]
        requests = RegionRequests(
            self.images,
            order.numpy(),
            np.asarray(self.lookup.boxes(order, region), np.float32),
            np.asarray(self.lookup.flips(order, region), bool),
        )
        for rows, (_, images) in zip(batches, self.pipeline(requests), strict=True):
            yield rows, images


def looks_up_features(cfg: CfgNode, student: Student | type[Student]) -> bool:
    """Whether a run of a student (or of its class) looks up what its frozen image tower says of the regions."""
    return cfg.REGIONS.CACHE_STUDENT_FEATURES and (student.frozen_image_tower or student.compares_with_frozen_images)


def _is_range(values: tuple) -> bool:
    return len(values) == 2 and 0 < values[0] <= values[1]
