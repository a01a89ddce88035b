"""Compatibility of a test, or of a training resumed in another folder, with the run whose weights it loads."""

from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from fdbpl.config import flatten, plain
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record
from fdbpl.runs.folder import DATA_PARTS, identity

from .run_inputs import digests_of_files
from .student import Student

BACKBONE = "MODEL.BACKBONE.NAME"
TEST_INPUT = ("INPUT.SIZE", "INPUT.INTERPOLATION", "INPUT.PIXEL_MEAN", "INPUT.PIXEL_STD")
TEACHER = ("TEACHER.NAME", "TEACHER.TEMPLATE", "TEACHER.TEMPLATES")
TEST_ONLY = "TRAINER.FDBPL.FROZEN_TEXT_WEIGHT"  # without effect on a training
# settings that a resumed training may change: length and rates, validation, speed of reading
CHANGEABLE = ("OPTIM.", "TRAIN.", "TEST.", "DATALOADER.", "MODEL.TEXT_CHUNK", "USE_CUDA")


def check_tested_run(folder: str | Path, cfg: CfgNode, settings: str, student: Student) -> None:
    """Refuse to test weights of another method, of another CLIP or for other image preprocessing.

    A folder without a record, as other code writes it, is accepted, and a line says so.

    Args:
        folder: run folder of the weights.
        settings: key of the method's settings, TRAINER.<cfg_key>.

    Raises:
        UserError: names the differing settings with the values of the run.
    """
    record = _record(folder, "--model-dir")
    if record is None:
        return
    keys = [*TEST_INPUT, *(TEACHER if student.uses_teacher_features else ())]
    keys += ["TEACHER.NAME"] * cfg.TEACHER.MATCH_RELATIONS  # the templates may be those of the tested data set
    keys += ["DATASET.SUBSAMPLE_CLASSES"] * student.class_specific
    own = flatten(plain(cfg))
    keys += [key for key in own if key.startswith(f"{settings}.") and not key.endswith((".PREC", TEST_ONLY))]
    theirs = flatten(record["config"])
    differing = _differing(theirs, own, ["TRAINER.NAME"]) or _differing(theirs, own, keys)
    if "INPUT.TRANSFORMS" in theirs and ("normalize" in theirs["INPUT.TRANSFORMS"]) != (
        "normalize" in own["INPUT.TRANSFORMS"]
    ):
        differing.append(f"INPUT.TRANSFORMS {theirs['INPUT.TRANSFORMS']} (here {own['INPUT.TRANSFORMS']})")
    differing += _other_weights(folder, record, own, student)
    if differing:
        raise UserError(
            f"The weights in {folder} cannot be tested with these settings: they were trained with "
            f"{_format(differing)}; give the test the settings of that run, or another --model-dir"
        )


def check_resumed_run(folder: str | Path, cfg: CfgNode, digests: dict[str, str], student: Student) -> None:
    """Refuse to resume a run with other data or classes, or with another seed, method or CLIP.

    Args:
        folder: run folder that RESUME names.
        digests: of the data of this run (`SplitDataset.digests`).

    Raises:
        UserError: names the differing settings with the values of the run.
    """
    record = _record(folder, "--resume")
    if record is None:
        return
    theirs, own = identity(record["config"]), identity(plain(cfg))
    keys = [
        key for key in own
        if key != BACKBONE and not key.startswith(CHANGEABLE) and not key.endswith(".PREC")
    ]  # fmt: skip
    differing = _differing(theirs, own, keys) + _other_weights(folder, record, own, student)
    data = _inputs(record).get("data") or {}
    if data.get("train", digests.get("train")) != digests.get("train"):
        differing.append(f"other {DATA_PARTS['train']}")
    files, here = _inputs(record).get("files") or {}, digests_of_files(cfg)
    differing += [f"another content of the file {key}" for key in files if files[key] != here.get(key)]
    if differing:
        raise UserError(
            f"The training in {folder} cannot be continued with these settings: it was run with {_format(differing)}. "
            "Only OPTIM, TRAIN, TEST and DATALOADER may change; give the other settings of that run, or start anew "
            "without --resume"
        )


def recorded_student(record: dict) -> str | None:
    """Return the SHA-256 of the weights of a recorded run's CLIP; None in records of older versions."""
    found = _inputs(record).get("student")
    return found if isinstance(found, str) else None


def _inputs(record: dict) -> dict:
    inputs = record.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _record(folder: str | Path, flag: str) -> dict | None:
    """Record of the run in `folder`; None, with a printed line, if this project wrote none."""
    file = Path(folder, "run.json")
    record = read_record(file, "the record of a run", f"give another {flag}") if file.is_file() else {}
    if "fingerprint" in record:
        return read_record(file, "the record of a run", f"give another {flag}", config=dict)
    print(f"{folder} holds no record of a run: method, CLIP and data of its weights are not compared")
    return None


def _differing(theirs: dict[str, Any], own: dict[str, Any], keys: list[str]) -> list[str]:
    """Return the keys with different values in both configurations, each with the recorded value and the one here."""
    both = [key for key in keys if key in theirs and key in own and theirs[key] != own[key]]
    return [f"{key} {theirs[key]!r} (here {own[key]!r})" for key in both]


def _other_weights(folder: str | Path, record: dict, own: dict[str, Any], student: Student) -> list[str]:
    """Compare the CLIP of a recorded run with the student's: by weights, or in older records by name."""
    recorded, name = recorded_student(record), flatten(record["config"]).get(BACKBONE)
    if recorded is None:
        print(f"{folder} does not record the weights of its CLIP: only the name is compared")
        return _differing({BACKBONE: name}, own, [BACKBONE])
    if recorded == student.backbone.sha256:
        return []
    here = f"{own[BACKBONE]!r}, SHA-256 {student.backbone.sha256:.12}"
    return [f"{BACKBONE} {name!r}, SHA-256 {recorded:.12} (here {here})"]


def _format(differing: list[str]) -> str:
    return ", ".join(differing[:3]) + (f" and {len(differing) - 3} more" if len(differing) > 3 else "")
