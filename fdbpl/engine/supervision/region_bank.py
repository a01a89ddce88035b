"""Supervision from the region bank: Region Information Lookup (RIL) of FDBPL. No teacher runs, no labels are read.

The features of the student's frozen image tower are constants as well, and are looked up too
(REGIONS.CACHE_STUDENT_FEATURES). Trainers of text prompts then decode no image; with visual prompts the regions are
cropped from the image files.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.class_names import clip_tokens
from fdbpl.distributed import barrier, shard, world_size
from fdbpl.errors import UserError
from fdbpl.losses import entropy_weight, mixed_logits
from fdbpl.pipelines import BACKENDS, DALI_DEVICES, RegionRequests, build_pipeline
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.generation import top_k
from fdbpl.regions.lookup import RegionLookup
from fdbpl.regions.metadata import BankMetadata, first_mismatch, read_identity

from .. import teachers
from ..bank_discovery import (
    all_banks,
    bank_root,
    expected_metadata,
    find_banks,
    is_topk,
    lookup_class_features,
    metadata_of,
    require_unique,
    teacher_precision,
    training_images,
    training_items,
)
from ..bank_spec import BankSpec, ensure_bank
from ..batch import TrainBatch
from ..image_dataset import decoding_of
from ..settings import require
from ..student import Student
from ..templates import DEFAULT_TEMPLATE
from .base import Loader, Supervision, TeacherLoader
from .region_batches import RegionBatches
from .vocabulary import read_vocabulary

UNLABELLED = -100  # cross entropy ignores these labels


class RegionBankSupervision(Supervision):
    """Teacher logits, and features of a frozen image tower, from the bank of the configuration.

    A subclass or the trainer defines the loss. REGIONS.GENERATE generates what the bank lacks.

    Raises:
        UserError: there is no bank of the configuration, or it lacks regions or classes of this training.
    """

    reads_bank = True
    has_teacher = True

    def __init__(self, cfg: CfgNode, dataset, student: Student, device: torch.device, load_teacher: TeacherLoader):
        super().__init__(cfg, dataset, student, device, load_teacher)
        if cfg.REGIONS.GENERATE:
            print(ensure_bank(self.bank_spec(cfg, dataset, student)))
            barrier()
        self.root, self.images = training_images(cfg, dataset)
        self.looks_up_features = _looks_up_features(cfg, student)
        self.crops_regions = not (self.looks_up_features and student.frozen_image_tower)
        backbone = student.backbone
        words = _vocabulary(cfg, dataset)
        self.word_student = student.with_classes(words) if words else None
        if self.word_student is not None:
            self.word_student.on_train_start()
            if cfg.TRAINER.FDBPL.VOCABULARY_PULL:
                self.frozen_words = self.word_student.frozen_text_features(DEFAULT_TEMPLATE)  # [words, D]
        self.lookup = self._open(cfg, words, (backbone.name, backbone.sha256) if self.looks_up_features else None)
        self.folder = self.lookup.bank.folder
        second = teachers.second_teacher(cfg)
        self.lookups = [self.lookup] if second is None else [self.lookup, self._open(second, words)]
        self.batches = RegionBatches(
            self.images,
            cfg.REGIONS.PER_IMAGE,
            cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
            cfg.SEED,
            cfg.REGIONS.PER_EPOCH,
            cfg.REGIONS.STEPS_PER_EPOCH,
            self._crop if self.crops_regions else None,
        )
        self.labels = _labels(cfg, dataset) if cfg.TRAINER.FDBPL.LABEL_WEIGHT > 0 else None
        self.image_means = self._image_means() if cfg.TRAINER.FDBPL.IMAGE_MEAN else None
        if self.crops_regions:
            self.pipeline = build_pipeline(
                cfg.REGIONS.PIPELINE, self.root, backbone.image_size,
                -(-self.batches.batch_size // world_size()), str(device), cfg.DATALOADER.NUM_WORKERS,
                dali_device=cfg.REGIONS.DALI_DEVICE, decoding=decoding_of(cfg),
            )  # fmt: skip
        looked_up = "teacher and student" if self.looks_up_features else "teacher"
        print(f"Region bank: {self.folder} ({looked_up} looked up, {len(self.images)} images)")
        for lookup in self.lookups[1:]:
            print(f"Region bank of the second teacher: {lookup.bank.folder} (teacher looked up)")

    def _open(self, cfg: CfgNode, words: list[str], student: tuple[str, str] | None = None) -> RegionLookup:
        """Open the bank of a configuration with the prompts of its teacher."""
        prompts = teachers.teacher_prompts(cfg, self.dataset, self.dataset.classnames, words)
        return RegionLookup(_bank_folder(cfg, self.dataset), self.images, cfg.REGIONS.PER_IMAGE, prompts, student)

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        teachers.check_cfg(cfg)
        regions = cfg.REGIONS
        for key, allowed, expected in (
            ("PER_IMAGE", regions.PER_IMAGE >= 1, "at least 1"),
            ("PER_EPOCH", regions.PER_EPOCH >= 1, "at least 1"),
            ("STEPS_PER_EPOCH", regions.STEPS_PER_EPOCH >= 0, "at least 0 (0 = as PER_EPOCH gives)"),
            ("BATCH_SIZE", regions.BATCH_SIZE >= 1, "at least 1"),
            ("FLIP", 0 <= regions.FLIP <= 1, "from 0.0 to 1.0"),
            ("SCALE", _is_range(regions.SCALE) and regions.SCALE[1] <= 1, "a range above 0.0 and up to 1.0"),
            ("SEED", regions.SEED >= 0, "at least 0"),
            ("PIPELINE", regions.PIPELINE in BACKENDS, f"one of {', '.join(BACKENDS)}"),
            ("DALI_DEVICE", regions.DALI_DEVICE in DALI_DEVICES, f"one of {', '.join(DALI_DEVICES)}"),
            ("RATIO", _is_range(regions.RATIO), "a range above 0.0"),
        ):
            require(allowed, f"REGIONS.{key}", expected, regions[key])
        mean, area, largest = cfg.TRAINER.FDBPL.IMAGE_MEAN, cfg.TRAINER.FDBPL.POSITIVE_AREA, regions.SCALE[1]
        require(0 <= mean <= 1, "TRAINER.FDBPL.IMAGE_MEAN", "from 0.0 to 1.0", mean)
        expected = f"at least 0.0 and below {largest}, the largest area of REGIONS.SCALE"
        require(0 <= area < largest, "TRAINER.FDBPL.POSITIVE_AREA", expected, area)
        if regions.TARGET != "embedding":
            top_k(regions.TARGET, 1)
            for key, value in (
                ("TRAINER.FDBPL.VOCABULARY", cfg.TRAINER.FDBPL.VOCABULARY),
                ("TEACHER.SECOND.NAME", cfg.TEACHER.SECOND.NAME),
            ):
                if value:
                    raise UserError(
                        f"{key} needs REGIONS.TARGET embedding; a bank of {regions.TARGET} knows the largest "
                        "probabilities of its own classes only"
                    )

    @classmethod
    def bank_spec(cls, cfg: CfgNode, dataset, student: Student | type[Student]) -> BankSpec:
        """Return the region bank that a training of `student` needs; loads the teacher only if it has no bank."""
        cls.check_cfg(cfg)
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        root, images = training_images(cfg, dataset)
        names = getattr(dataset, "all_classnames", None) or dataset.classnames

        @cache
        def load_teacher() -> Backbone:
            return teachers.load_teacher(cfg, dataset, device)

        banks = find_banks(cfg, dataset)
        if banks:  # its manifest names the teacher; `generate` checks the weights if it has to load them
            identity = BankMetadata(**read_identity(require_unique(banks, cfg)))
        else:
            identity = metadata_of(cfg, dataset, load_teacher())

        second = teachers.second_teacher(cfg)
        return BankSpec(
            root=root,
            images=images,
            bank=bank_root(cfg, dataset) / identity.folder_name(),
            identity=identity,
            teacher=load_teacher,
            per_image=cfg.REGIONS.PER_IMAGE,
            student=partial(load_backbone, cfg.MODEL.BACKBONE.NAME, device)
            if _looks_up_features(cfg, student) else None,
            prompts=teachers.teacher_prompts(cfg, dataset, dataset.classnames)
            if is_topk(cfg) else teachers.teacher_prompts(cfg, dataset, names, _vocabulary(cfg, dataset)),
            pipeline=cfg.REGIONS.PIPELINE,
            device=device,
            batch_size=cfg.REGIONS.BATCH_SIZE,
            workers=cfg.DATALOADER.NUM_WORKERS,
            dali_device=cfg.REGIONS.DALI_DEVICE,
            second=replace(cls.bank_spec(second, dataset, student), student=None) if second else None,
        )  # fmt: skip

    @classmethod
    def teacher_precision(cls, cfg: CfgNode) -> str:
        return teacher_precision(cfg)

    @classmethod
    def load_teacher(cls, cfg: CfgNode, dataset, device: torch.device) -> Backbone:
        return teachers.load_teacher(cfg, dataset, str(device))

    @classmethod
    def class_features(cls, cfg: CfgNode, dataset, classnames: list[str], load_teacher: TeacherLoader) -> Tensor:
        """Look the features up in a bank that holds them; otherwise encode the class names with the teacher."""
        texts = teachers.teacher_prompts(cfg, dataset, classnames)
        banks = find_banks(cfg, dataset) if getattr(dataset, "dataset_dir", None) else []  # None outside of a training
        if banks:
            try:
                return RegionBank.open(require_unique(banks, cfg)).text_features(texts)
            except UserError:
                if classnames == dataset.classnames:  # which the bank of this data set must hold
                    raise
        stored = lookup_class_features(cfg, texts)
        return load_teacher().encode_text(texts) if stored is None else stored

    def train_loader(self, loader: Loader) -> RegionBatches:
        return self.batches

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def read(self, batch: dict) -> TrainBatch:
        image, region, settings = batch["image_index"], batch["region"], self.cfg.TRAINER.FDBPL
        logits = self.teacher_logits(image, region).to(self.device, non_blocking=True)
        classes = len(self.dataset.classnames)
        found = TrainBatch(teacher_logits=logits[:, :classes])
        if self.image_means is not None:
            means = self.image_means[image].to(self.device, non_blocking=True)
            found = found._replace(target_logits=mixed_logits(logits[:, :classes], means, settings.IMAGE_MEAN))
        if settings.POSITIVE_AREA:
            factor = _positive_factor(self.lookup.areas(image, region), settings.POSITIVE_AREA)
            found = found._replace(positive_factor=factor.to(self.device, non_blocking=True))
        if self.word_student is not None:  # the most likely words of the batch according to the teacher
            likely = logits.softmax(dim=-1).mean(dim=0)[classes:]
            words = likely.topk(min(settings.VOCABULARY_K, len(likely))).indices
            found = found._replace(words=words, word_logits=logits[:, classes + words])
        if self.labels is not None:
            found = found._replace(labels=self.labels[image].to(self.device, non_blocking=True))
        if is_topk(self.cfg):  # stored from the full distribution, of which the logits hold only the top
            found = found._replace(entropy=self.lookup.entropy(image, region).to(self.device, non_blocking=True))
        if self.looks_up_features:
            features = self.lookup.student_features(image, region).to(self.device, non_blocking=True)
            found = found._replace(image_features=features)
        if self.crops_regions:
            found = found._replace(images=batch["img"].to(self.device, non_blocking=True), total=len(image))
        return found

    def teacher_logits(self, image: Tensor, region: Tensor, first: int | None = None) -> Tensor:
        """Return logits over the `first` prompts, float32 [B, C]: those of the teacher, or of both teachers combined.

        Two teachers give the mean of their log probabilities, by confidence weighted with 1 - H(p) / ln C.
        """
        logits = [lookup.teacher_logits(image, region, first) for lookup in self.lookups]
        if len(logits) == 1:
            return logits[0]
        log_p = torch.stack(logits).log_softmax(dim=-1)  # [2, B, C]
        if self.cfg.TEACHER.SECOND.COMBINE == "mean":
            return log_p.mean(dim=0)
        confidence = entropy_weight(log_p[..., : len(self.dataset.classnames)])  # of the classes, not of further words
        share = confidence / confidence.sum(dim=0).clamp(min=1e-6)
        return (share[..., None] * log_p).sum(dim=0)

    def word_features(self, batch: TrainBatch, image_features: Tensor) -> Tensor:
        """Return the student's unit features of the batch's words, float32 [K, D]."""
        assert self.word_student is not None
        return self.word_student.text_features(image_features=image_features, classes=batch.words)[0]

    def _image_means(self) -> Tensor:
        """Return the mean of the teacher's distributions over all regions of each image, float32 [N, C].

        They are computed from the stored embeddings. 16,000 images and 1,000 classes take 64 MB.
        """
        count, classes = self.cfg.REGIONS.PER_IMAGE, len(self.dataset.classnames)
        means = torch.empty(len(self.images), classes)
        stored = torch.from_numpy(np.argsort(self.images)).split(16)  # the bank's shards hold images in this order
        for image in tqdm(stored, desc="Mean distributions of the images", leave=False, disable=None):
            region = torch.arange(count).repeat(len(image))
            logits = self.teacher_logits(image.repeat_interleave(count), region, classes)
            means[image] = logits.softmax(dim=-1).view(len(image), count, classes).mean(dim=1)
        return means

    def _crop(self, order: Tensor, region: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the rows of each whole batch and the pixels of this process's share of it."""
        batches = torch.arange(len(order)).split(self.batches.batch_size)
        own = torch.cat([shard(rows) for rows in batches])
        order, region = order[own], region[own]
        requests = RegionRequests(
            self.images,
            order.numpy(),
            np.asarray(self.lookup.boxes(order, region), np.float32),
            np.asarray(self.lookup.flips(order, region), bool),
        )
        for rows, (_, images) in zip(batches, self.pipeline(requests), strict=True):
            yield rows, images


def _labels(cfg: CfgNode, dataset) -> Tensor:
    """Return the labels of the few-shot images and UNLABELLED for the others, int64 [N]."""
    known = {item.impath: item.label for item in dataset.train_x}
    return torch.tensor([known.get(item.impath, UNLABELLED) for item in training_items(cfg, dataset)])


def _positive_factor(areas: Tensor, least: float) -> Tensor:
    """Return B / n for the n regions of at least this area and 0 for the others, float32 [B].

    The batch mean of a term times this factor is its mean over the n regions, so the loss keeps its scale.
    """
    large = areas >= least
    return large * (len(large) / large.sum().clamp(min=1))


def _vocabulary(cfg: CfgNode, dataset) -> list[str]:
    """Return the words of TRAINER.FDBPL.VOCABULARY that are not classes of this training; [] without a vocabulary."""
    file = cfg.TRAINER.FDBPL.VOCABULARY
    if not file:
        return []
    words = read_vocabulary("" if file == "kdpl" else file, "TRAINER.FDBPL.VOCABULARY")
    classes = set(clip_tokens(dataset.classnames))
    return [word for word, tokens in zip(words, clip_tokens(words), strict=True) if tokens not in classes]


def _bank_folder(cfg: CfgNode, dataset) -> Path:
    """Return the folder of the configuration's bank.

    Raises:
        UserError: there is none.
    """
    banks = find_banks(cfg, dataset)
    if not banks:
        others = [folder.name for folder in all_banks(cfg, dataset)]
        raise UserError(
            f"There is no region bank of {cfg.TEACHER.NAME} in {bank_root(cfg, dataset)}"
            f"{' (only ' + ', '.join(others) + ')' if others else ''}. Generate it: bash scripts/generate_regions.sh "
            f"with the same data set, seed and trainer{_decoding_note(cfg, dataset)}"
        )
    return require_unique(banks, cfg)


def _decoding_note(cfg: CfgNode, dataset) -> str:
    """Return a note about a bank that differs only in the decoding of the images."""
    fields = json.loads(json.dumps(expected_metadata(cfg, dataset)))
    wanted = fields.pop("interpolation")
    for folder in all_banks(cfg, dataset):
        found = read_identity(folder)
        if first_mismatch(found, fields) is None and found["interpolation"] != wanted:
            return (
                f". The images of {folder.name} were read with {found['interpolation']!r:.100}, but this run reads "
                f"them with {decoding_of(cfg)} (INPUT.EXIF_ORIENTATION, INPUT.WHITE_BACKGROUND)"
            )
    return ""


def _looks_up_features(cfg: CfgNode, student: Student | type[Student]) -> bool:
    """Return whether a training of `student` reads features of its frozen image tower from the bank."""
    return cfg.REGIONS.CACHE_STUDENT_FEATURES and (student.frozen_image_tower or student.compares_with_frozen_images)


def _is_range(values: tuple) -> bool:
    return len(values) == 2 and 0 < values[0] <= values[1]
