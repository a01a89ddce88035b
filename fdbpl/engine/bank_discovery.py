"""Search for the region bank of a configuration: of its data set, teacher and crop distribution."""

import json
import os
from contextlib import suppress
from pathlib import Path

import torch
from yacs.config import CfgNode

from fdbpl.backbones import Backbone, choose_precision
from fdbpl.errors import UserError, enumerated
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.metadata import (
    DEFAULTS,
    SCHEMA,
    BankMetadata,
    digest,
    first_mismatch,
    interpolation_of,
    read_identity,
)

from . import teachers
from .image_dataset import decoding_of


def training_items(cfg: CfgNode, dataset) -> list:
    """Return the images whose regions a training reads, as Dassl's items: the few shots, or all of their classes.

    Raises:
        UserError: the data set belongs to other code, which knows no other images.
    """
    if not cfg.REGIONS.ALL_IMAGES:
        return dataset.train_x
    if not hasattr(dataset, "all_train"):
        raise UserError(
            f"REGIONS.ALL_IMAGES True needs a data set of this project, and {cfg.DATASET.NAME} gives only its few-shot "
            "images; train on all images with DATASET.NUM_SHOTS -1"
        )
    return dataset.all_train


def training_images(cfg: CfgNode, dataset) -> tuple[Path, list[str]]:
    """Return the data root and the relative paths of the images of `training_items`, in their order.

    Raises:
        UserError: an image is outside of the data root.
    """
    root = _data_root(cfg, dataset)
    paths = [
        Path(os.path.relpath(Path(item.impath).absolute(), root)).as_posix() for item in training_items(cfg, dataset)
    ]
    outside = [path for path in paths if path.startswith("..")]
    if outside:
        raise UserError(
            f"The training image {outside[0]} is not below the data root {root}; give --root a folder that contains "
            "all images"
        )
    return root, paths


def is_topk(cfg: CfgNode) -> bool:
    """Return whether banks store the top-k probabilities of a fixed class list instead of embeddings."""
    return cfg.REGIONS.TARGET.startswith("topk:")


def bank_root(cfg: CfgNode, dataset) -> Path:
    """Return the folder of all banks of a data set."""
    return Path(cfg.REGIONS.ROOT, _dataset_folder(cfg, dataset))


def expected_metadata(cfg: CfgNode, dataset) -> dict:
    """Return the metadata that the configuration determines; the weights' hash only if known before loading."""
    regions = cfg.REGIONS
    fields = {
        "schema": SCHEMA,
        "dataset": _dataset_folder(cfg, dataset),
        "teacher": cfg.TEACHER.NAME,
        "precision": teachers.precision(cfg),
        "scale": tuple(regions.SCALE),
        "ratio": tuple(regions.RATIO),
        "flip": regions.FLIP,
        "seed": regions.SEED,
        "interpolation": interpolation_of(decoding_of(cfg)),
        "content": regions.TARGET,
        "classes": digest(teachers.teacher_prompts(cfg, dataset, dataset.classnames))
        if is_topk(cfg) else "",
    }  # fmt: skip
    sha256 = teachers.teacher_sha256(cfg)
    return fields if sha256 is None else {**fields, "teacher_sha256": sha256}


def metadata_of(cfg: CfgNode, dataset, teacher: Backbone) -> BankMetadata:
    """Return the metadata of the bank that `teacher` generates under a configuration."""
    return BankMetadata(
        **{
            **expected_metadata(cfg, dataset),
            "teacher_sha256": teacher.sha256,
            "logit_scale": teacher.logit_scale,
            "size": teacher.image_size,
            "mean": tuple(teacher.mean),
            "std": tuple(teacher.std),
        }
    )


def find_banks(cfg: CfgNode, dataset) -> list[Path]:
    """Return the banks whose metadata agree with the configuration; the teacher is not loaded."""
    fields = json.loads(json.dumps(expected_metadata(cfg, dataset)))
    return [folder for folder in all_banks(cfg, dataset) if first_mismatch(read_identity(folder), fields) is None]


def all_banks(cfg: CfgNode, dataset) -> list[Path]:
    """Return the banks of a data set, of any teacher and crop distribution."""
    return sorted(manifest.parent for manifest in bank_root(cfg, dataset).glob("*/manifest.json"))


def require_unique(banks: list[Path], cfg: CfgNode) -> Path:
    """Return the only bank of `banks`.

    Raises:
        UserError: there are several.
    """
    if len(banks) > 1:
        raise UserError(
            f"{len(banks)} region banks of {cfg.TEACHER.NAME} were generated with different weights: "
            f"{enumerated(bank.name for bank in banks)}. Move all but one of them away"
        )
    return banks[0]


def teacher_precision(cfg: CfgNode) -> str:
    """Return the precision of the teacher on this machine; with TEACHER.PREC auto, all its banks have the same one."""
    if cfg.TEACHER.PREC not in ("auto", "bf16"):
        return cfg.TEACHER.PREC
    device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
    return choose_precision(cfg.TEACHER.PREC, device, _stored_precisions(cfg), "TEACHER.PREC", cfg.TEACHER.NAME)


def lookup_class_features(cfg: CfgNode, texts: list[str]) -> torch.Tensor | None:
    """Return unit features of C texts by the teacher, float32 [C, D], from a bank of any data set.

    Returns None if no bank holds all of them, or if the teacher's hash is not known without loading the weights.
    """
    sha256 = teachers.teacher_sha256(cfg)
    fields = {"teacher": cfg.TEACHER.NAME, "teacher_sha256": sha256, "precision": teachers.precision(cfg)}
    for manifest in sorted(Path(cfg.REGIONS.ROOT).rglob("manifest.json")):
        with suppress(UserError):  # a broken bank, or one without these texts
            if first_mismatch(read_identity(manifest.parent), fields) is None:
                return RegionBank.open(manifest.parent).text_features(texts)
    return None


def _data_root(cfg: CfgNode, dataset) -> Path:
    return Path(getattr(dataset, "root", None) or cfg.DATASET.ROOT).expanduser().absolute()


def _dataset_folder(cfg: CfgNode, dataset) -> str:
    """Return the folder of the data set below the data root, which names the data set in banks."""
    folder = str(dataset.dataset_dir)
    return os.path.relpath(folder, _data_root(cfg, dataset)) if os.path.isabs(folder) else folder


def _stored_precisions(cfg: CfgNode) -> set[str]:
    """Return the precisions of the banks of TEACHER.NAME, of any data set."""
    found = set()
    for manifest in Path(cfg.REGIONS.ROOT).rglob("manifest.json"):
        with suppress(UserError):  # a broken bank
            identity = {**DEFAULTS, **read_identity(manifest.parent)}
            if identity["teacher"] == cfg.TEACHER.NAME:
                found.add(identity["precision"])
    return found
