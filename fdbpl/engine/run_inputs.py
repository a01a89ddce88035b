"""Inputs of a run in addition to its configuration: the rows of its data, the weights of its CLIP, and text files."""

import hashlib
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from fdbpl.config import flatten, plain
from fdbpl.io.atomic import read_record

# keys that can name a file, whose content the result depends on
FILE_KEYS = ("TEACHER.TEMPLATES", "TRAINER.FDBPL.VOCABULARY", "TRAINER.KDPL.VOCABULARY")


def tested_split(cfg: CfgNode, dataset, wanted: str | None = None) -> str:
    """Return the split of a test: "val" if TEST.SPLIT (or `wanted`) selects it and it is not empty, else "test"."""
    return "val" if (wanted or cfg.TEST.SPLIT) == "val" and dataset.val else "test"


def test_record(cfg: CfgNode, dataset) -> dict[str, Any]:
    """Describe the tested images: split, number, subset of the classes, SHA-256 of rows and class names."""
    split = tested_split(cfg, dataset)
    return {
        "split": split,
        "images": len(getattr(dataset, split)),
        "classes": dataset.protocol["subsample"],
        "sha256": dataset.digests[split],
    }


def inputs_of(cfg: CfgNode, dataset, student: str | None, trains: bool) -> dict[str, Any]:
    """Return the inputs of a run, as `fdbpl.runs.RunFolder` stores them.

    Args:
        dataset: a `SplitDataset`.
        student: SHA-256 of the weights of MODEL.BACKBONE; None if it is not known.
        trains: False for a test, which reads one split only.
    """
    read = dataset.digests if trains else {split: dataset.digests[split] for split in [tested_split(cfg, dataset)]}
    inputs = {"data": dict(read), "student": student, "resumed_from": _origin(cfg) if trains else None}
    files = digests_of_files(cfg)
    return {**inputs, "files": files} if files else inputs


def digests_of_files(cfg: CfgNode) -> dict[str, str]:
    """Return the SHA-256 of the files that FILE_KEYS name, by key."""
    values = flatten(plain(cfg))
    files = {key: Path(values.get(key, "")).expanduser() for key in FILE_KEYS}
    return {key: hashlib.sha256(file.read_bytes()).hexdigest() for key, file in files.items() if file.is_file()}


def _origin(cfg: CfgNode) -> str | None:
    """Return the fingerprint of the run in another folder that RESUME continues; its path if it has no record."""
    if not cfg.RESUME or Path(cfg.RESUME).resolve() == Path(cfg.OUTPUT_DIR).resolve():
        return None
    record = Path(cfg.RESUME, "run.json")
    if not record.is_file():
        return str(Path(cfg.RESUME).resolve())
    return read_record(record, "the record of a run", "give another --resume", fingerprint=str)["fingerprint"]
