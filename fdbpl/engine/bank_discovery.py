"""Which region bank a configuration names: of its data set, teacher and crop distribution."""

import json
import os
from contextlib import suppress
from pathlib import Path

import torch
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.errors import UserError, enumerated
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.metadata import SCHEMA, BankMetadata, digest, first_mismatch, read_identity
from fdbpl.templates import fill_template

from . import teachers as teacher


def training_images(cfg: CfgNode, dataset) -> tuple[Path, list[str]]:
    """Data root and the training images' paths below it, in the order of `dataset.train_x`."""
    root = Path(getattr(dataset, "root", None) or cfg.DATASET.ROOT).expanduser().absolute()
    paths = [Path(os.path.relpath(Path(item.impath).absolute(), root)).as_posix() for item in dataset.train_x]
    outside = [path for path in paths if path.startswith("..")]
    if outside:
        raise UserError(f"expected training images below {root}, found {outside[0]}; give the folder above as --root")
    return root, paths


def is_topk(cfg: CfgNode) -> bool:
    return cfg.REGIONS.TARGET.startswith("topk:")


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
        "precision": teacher.precision(cfg),
        "scale": tuple(regions.SCALE),
        "ratio": tuple(regions.RATIO),
        "flip": regions.FLIP,
        "seed": regions.SEED,
        "content": regions.TARGET,
        "classes": digest(fill_template(teacher.template(cfg, dataset), dataset.classnames)) if is_topk(cfg) else "",
    }
    sha256 = teacher.teacher_sha256(cfg)
    return fields if sha256 is None else {**fields, "teacher_sha256": sha256}


def identity_of(cfg: CfgNode, dataset, model: Backbone) -> BankMetadata:
    """The identity of the bank that `model` makes under this configuration."""
    return BankMetadata(
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
    sha256 = teacher.teacher_sha256(cfg)
    fields = {"teacher": cfg.TEACHER.NAME, "teacher_sha256": sha256, "precision": teacher.precision(cfg)}
    for manifest in sorted(Path(cfg.REGIONS.ROOT).rglob("manifest.json")):
        with suppress(UserError):  # a broken bank, or one without these texts
            if first_mismatch(read_identity(manifest.parent), fields) is None:
                return RegionBank.open(manifest.parent).text_features(texts)
    return None


def all_banks(cfg: CfgNode, dataset) -> list[Path]:
    return sorted(manifest.parent for manifest in bank_root(cfg, dataset).glob("*/manifest.json"))


def matching_banks(cfg: CfgNode, dataset) -> list[Path]:
    """Banks whose manifests agree with the configuration; the teacher itself is not needed to tell."""
    fields = json.loads(json.dumps(wanted(cfg, dataset)))
    return [folder for folder in all_banks(cfg, dataset) if first_mismatch(read_identity(folder), fields) is None]


def one_of(banks: list[Path], cfg: CfgNode) -> Path:
    if len(banks) > 1:
        raise UserError(
            f"expected one region bank of {cfg.TEACHER.NAME}, found {len(banks)} of different weights "
            f"({enumerated(bank.name for bank in banks)}); move all but one away"
        )
    return banks[0]
