"""The run folder: config.yaml, run.json, metrics.json and done.json, next to Dassl's log and checkpoints."""

import hashlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from numbers import Real
from pathlib import Path
from typing import Any

from fdbpl.config import flatten, rename_keys
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import clean_partial_files, read_record, write_json, write_text
from fdbpl.io.locks import file_lock
from fdbpl.runs.environment import describe_environment

REMEDY = "delete the run's folder and run it again"

# keys that change the place or the output of a run, not its result
NOT_IDENTITY = {
    "OUTPUT_DIR",
    "RESUME",
    "VERBOSE",
    "DATASET.ROOT",
    "DATASET.FEWSHOT_DIR",
    "REGIONS.ROOT",
    "TEST.FEATURE_CACHE_DIR",
    "DATALOADER.NUM_WORKERS",
    "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ",
    "TEST.SAVE_PREDICTIONS",
}
# keys that the records of older versions lack, with the value of those runs
ADDED = {
    "REGIONS.DALI_DEVICE": "cpu",
    "INPUT.EXIF_ORIENTATION": False,
    "INPUT.WHITE_BACKGROUND": False,
    "TRAINER.FDBPL.IMAGE_MEAN": 0.0,
    "TRAINER.FDBPL.POSITIVE_AREA": 0.0,
    "DATASET.DEMO.SHARE": 1.0,
    "TEACHER.TEMPLATES": "",
    "TEACHER.MATCH_RELATIONS": False,
    "REGIONS.ALL_IMAGES": False,
    "TEACHER.SECOND.NAME": "",
    "TEACHER.SECOND.COMBINE": "mean",
    "TRAINER.FDBPL.RANK_WEIGHT": False,
    "TRAINER.FDBPL.NONE_WEIGHT": 0.0,
    "TRAINER.FDBPL.NONE_CTX_INIT": "a photo of nothing",
    "TRAINER.FDBPL.VOCABULARY_PULL": 0.0,
    "TRAINER.FDBPL.FROZEN_TEXT_WEIGHT": 0.0,
    "TRAINER.FDBPL.GPA": False,
    "TRAINER.FDBPL.GPA_MEAN": 0.75,
    "TRAINER.FDBPL.GPA_STD": 0.05,
}


DATA_PARTS = {
    "train": "training images",
    "val": "validation images",
    "test": "test images",
    "all_train": "unlabelled training images",
}


def identity(config: dict[str, Any]) -> dict[str, Any]:
    """Return {"A.B": value} of the keys that determine the result of a run, for records of all versions."""
    return {
        key: value
        for key, value in rename_keys(flatten(config)).items()
        if key not in NOT_IDENTITY and (key not in ADDED or value != ADDED[key])
    }


def fingerprint(config: dict[str, Any], task: str, inputs: dict[str, Any] | None = None) -> str:
    """Return the hex digest that identifies a run.

    Args:
        config, task: as for `RunFolder`.
        inputs: the run's data and weights; None in the records of older versions.
    """
    parts = [identity(config), task, *([inputs] if inputs else [])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class RunFolder:
    """One run's folder.

    Args:
        path: the folder (Dassl's OUTPUT_DIR).
        config: the resolved configuration as nested plain dicts.
        task: "train", or "test <model folder>".

    Attributes:
        inputs: further inputs that the result depends on; None before they have been read:
            {"data": {part: SHA-256 of its rows and class names}, "student": SHA-256 of the weights of
            MODEL.BACKBONE or None, "resumed_from": fingerprint or folder of the run that RESUME continues, or None},
            and "files": {key: SHA-256 of the file that it names} if there are such keys.
    """

    def __init__(self, path: str | os.PathLike, config: dict[str, Any], task: str = "train"):
        self.path = Path(path)
        self.config = config
        self.task = task
        self.inputs: dict[str, Any] | None = None
        self._record: dict[str, Any] = {}

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.config, self.task, self.inputs)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of this folder: a second process waits until the first one ends.

        Raises:
            SystemFailure: the folder cannot be made or written to.
        """
        with file_lock(self.path / ".lock", f"Another process runs in {self.path}: waiting for its end"):
            yield

    def finished_metrics(self) -> dict | None:
        """Return the metrics if the folder holds a finished run of this configuration, else None.

        Raises:
            UserError: the folder holds a run of another configuration; the differing keys are named.
        """
        stored = self._stored()
        if stored is None:
            return None
        if (stored.get("task"), identity(stored["config"])) != (self.task, identity(self.config)):
            raise UserError(
                f"{self.path} holds another run, with {self._difference(stored)}; "
                "choose another --output-dir (OUTPUT for the scripts) or delete that folder"
            )
        if not (self.path / "done.json").is_file():
            return None
        return read_metrics(self.path)

    def check_inputs(self, inputs: dict[str, Any]) -> None:
        """Compare the data and the weights with those that the folder's run has recorded.

        Raises:
            UserError: they differ.
        """
        stored = self._stored()
        if stored is None:
            return
        if not stored.get("inputs"):
            print(f"{self.path / 'run.json'} does not record the data and the weights: they are not compared")
            return
        found = _other_inputs(stored["inputs"], inputs)
        if found:
            raise UserError(
                f"{self.path} holds a run {found}; choose another --output-dir, or delete that folder to run it again"
            )

    def _stored(self) -> dict | None:
        """Return the folder's record; None if there is none."""
        record = self.path / "run.json"
        if not record.is_file():
            return None
        stored = read_record(record, "the record of a run", REMEDY, fingerprint=str, config=dict)
        if not isinstance(stored.get("inputs"), dict | None):
            raise UserError(f"inputs in {record} are not an object; {REMEDY}")
        return stored

    def start(self, config_text: str) -> None:
        """Record the run that begins; rename the log of an earlier attempt."""
        clean_partial_files(self.path)
        log = self.path / "log.txt"
        if log.is_file():
            stamp = time.strftime("%Y-%m-%d-%H-%M-%S", time.localtime(log.stat().st_mtime))
            names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
            asides = (self.path / f"log.txt-{name}" for name in names)
            log.rename(next(aside for aside in asides if not aside.exists()))  # or the clock was set back
        self.inputs = (self._stored() or {}).get("inputs")  # an earlier attempt's, until `record_inputs`
        write_text(self.path / "config.yaml", config_text)
        self._record = {
            "command": [sys.executable, *sys.argv],
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "fingerprint": self.fingerprint,
            "task": self.task,
            "inputs": self.inputs,
            "config": self.config,
            **describe_environment(),
        }
        write_json(self.path / "run.json", self._record)

    def record_inputs(self, inputs: dict[str, Any]) -> None:
        """Record the data and the weights of the run that `start` has begun.

        Raises:
            UserError: an earlier attempt had others.
        """
        if self.inputs is not None or any(self.path.glob("*/checkpoint")):
            self.check_inputs(inputs)
        self.inputs = inputs
        self._record.update(fingerprint=self.fingerprint, inputs=inputs)
        write_json(self.path / "run.json", self._record)

    def remove_unless_trained(self) -> None:
        """Remove the files of a run that was refused before its first training step."""
        if (self.path / "tensorboard").exists() or any(self.path.glob("*/checkpoint")):
            return
        for name in ("run.json", "config.yaml", "log.txt", ".lock"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # the folder is not empty
            self.path.rmdir()

    def finish(self, metrics: dict) -> None:
        """Write metrics.json, then the done marker with the SHA-256 of the run's files."""
        write_json(self.path / "metrics.json", metrics)
        marker = {"finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "fingerprint": self.fingerprint}
        files = {str(file.relative_to(self.path)): file for file in self._left()}
        sha256 = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
        write_json(self.path / "done.json", {**marker, "sha256": sha256})

    def _left(self) -> list[Path]:
        """Return the configuration, results, and the last and the best checkpoint of each module."""
        last = [pointer.parent / pointer.read_text().strip() for pointer in sorted(self.path.glob("*/checkpoint"))]
        best = sorted(self.path.glob("*/model-best.pth.tar"))
        records = [self.path / name for name in ("config.yaml", "metrics.json", "confusion.npz", "predictions.csv")]
        return [file for file in dict.fromkeys([*records, *last, *best]) if file.is_file()]

    def _difference(self, stored: dict) -> str:
        if stored.get("task") != self.task:
            return f"task {quoted(stored.get('task'))} instead of {self.task!r}"
        theirs, ours = identity(stored.get("config", {})), identity(self.config)
        keys = [key for key in sorted(theirs.keys() | ours.keys()) if theirs.get(key) != ours.get(key)]
        shown = ", ".join(f"{key} {quoted(theirs.get(key))} instead of {quoted(ours.get(key))}" for key in keys[:3])
        return shown + (f" and {len(keys) - 3} more" if len(keys) > 3 else "") if keys else "another configuration"


def _other_inputs(stored: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Describe how a recorded run's data and weights differ from the given ones, after "a run"; "" if they agree."""
    if stored.get("resumed_from") != inputs["resumed_from"]:
        origin = stored.get("resumed_from")
        return f"that --resume continued from another run ({origin:.12})" if origin else "that continued no other run"
    theirs, ours = (part.get("data") or {} for part in (stored, inputs))
    other = [words for part, words in DATA_PARTS.items() if part in theirs and theirs[part] != ours.get(part)]
    if other:
        return f"on other {' and other '.join(other)} (or other names of their classes)"
    theirs, ours = (part.get("files") or {} for part in (stored, inputs))
    other = [key for key in theirs.keys() & ours.keys() if theirs[key] != ours[key]]
    if other:
        return f"with another content of the file {other[0]}"
    if None not in (stored.get("student"), inputs["student"]) and stored["student"] != inputs["student"]:
        return f"with other weights in MODEL.BACKBONE (SHA-256 {stored['student']:.12}, now {inputs['student']:.12})"
    return ""


def read_metrics(folder: Path, **kinds: type) -> dict:
    """Read metrics.json of a finished run; the accuracy and the given keys must be there with the given types.

    Raises:
        UserError: there is none, or it is broken.
    """
    return read_record(folder / "metrics.json", "the metrics of a finished run", REMEDY, accuracy=Real, **kinds)


def read_classnames(folder: Path) -> list[str]:
    """Read the class names of a finished run, in the order of the labels.

    Raises:
        UserError: there are none, or metrics.json is missing or broken.
    """
    names = read_metrics(folder, protocol=dict)["protocol"].get("classnames")
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise UserError(
            f"{folder}/metrics.json has no valid class names (protocol.classnames is {names!r:.80}); run the training "
            "again"
        )
    return names


def config_name(config: str, overrides: list[str]) -> str:
    """Return the folder name of a configuration: its YAML's name and overrides, `demo+OPTIM.MAX_EPOCH=20`."""
    pairs = sorted(f"{key}={value}" for key, value in zip(overrides[::2], overrides[1::2], strict=False))
    name = "+".join([config, *(re.sub(r"[^\w.=,:-]", "_", pair) for pair in pairs)])
    if len(name) > 120 or any(not re.fullmatch(r"[\w.=,:-]+", pair) for pair in pairs):
        digest = hashlib.sha256("\0".join(pairs).encode()).hexdigest()[:8]
        name = f"{name[:110]}-{digest}"
    return name
