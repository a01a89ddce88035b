"""Folders of data sets with images of one pixel."""

import json
import os
from pathlib import Path

from dassl.config import get_cfg_default

import datasets

PIXEL = b"P6 1 1 255\n\0\0\0"  # the smallest image


def config(root, shots=-1, subsample="all", seed=1):
    """The configuration of a data set below `root`, with few-shot lists in root/cache."""
    cfg = get_cfg_default()
    datasets.extend_cfg(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.FEWSHOT_DIR = str(root), str(Path(root) / "cache")
    cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES, cfg.SEED = shots, subsample, seed
    return cfg


def small_images(root, paths):
    for folder in {os.path.dirname(path) for path in paths}:
        os.makedirs(os.path.join(root, folder), exist_ok=True)
    for path in paths:
        with open(os.path.join(root, path), "wb") as file:
            file.write(PIXEL)


def write_split(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def below(root, items):
    """(path below `root`, label, class name) of Dassl's items."""
    return [(os.path.relpath(item.impath, root), item.label, item.classname) for item in items]
