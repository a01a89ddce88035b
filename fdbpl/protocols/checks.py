"""Checks of the arguments of a protocol or grid, before anything runs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fdbpl.errors import UserError
from fdbpl.runs.targets import SAME_CLASSES

# keys that a protocol sets -> what to use instead
PROTOCOL_KEYS = {
    "SEED": "Give the seed as the script's argument SEED",
    "TRAINER.NAME": "Give the trainer as the script's argument TRAINER",
    "DATASET.NAME": "Give the data set as the script's argument DATASET",
    "DATASET.NUM_SHOTS": "Set the variable SHOTS, e.g. SHOTS=4 or SHOTS=all",
    "DATASET.SUBSAMPLE_CLASSES": "LEARN=all trains base-to-new on all classes and tests both halves; train.sh and "
    "few_shot.sh train and test on all classes; SUB chooses the classes of base2new_test.sh and generate_regions.sh",
    "DATASET.ROOT": "Set the variable DATA",
    "DATASET.FOLDER": "Set the variable DATA",
    "DATASET.FOLDER_DIGEST": "Set the variable DATA",
    "OUTPUT_DIR": "Set the variable OUTPUT",
    "RESUME": "The same command resumes an interrupted run; to continue another run use train.py --resume",
    "TEST.SPLIT": "The scripts test on the test images; for the validation images use train.py --eval-only",
    "TEST.NO_TEST": "The result of a protocol is the accuracy of its tests",
}  # fmt: skip


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides of keys that the protocol sets: they would apply to every training and test.

    Raises:
        UserError: names the key and the argument or variable to use.
    """
    for key in overrides[::2]:
        if key in PROTOCOL_KEYS:
            raise UserError(f"{key} is set by the protocol and cannot be overridden here. {PROTOCOL_KEYS[key]}")


def check_numbers(seeds: Sequence[str], shots: Sequence[str]) -> None:
    """Refuse seeds and shots that are not numbers, or not written as in the names of run folders."""
    for numbers, what, form, example in (
        (seeds, "SEEDS", r"0|[1-9]\d*", "1 2 3"), (shots, "SHOTS", r"-1|[1-9]\d*", "16"),
    ):  # fmt: skip
        odd = [number for number in numbers if not re.fullmatch(form, number, re.ASCII)]
        if odd:
            more = " (all: all images)" * (what == "SHOTS")
            raise UserError(
                f"{what} has {odd[0]!r:.100}, which is not a whole number without leading zeros{more}; give e.g. "
                f"{what}='{example}'"
            )


def check_targets(source: str, targets: Sequence[str]) -> None:
    """Refuse a source that is its own target, and a target that is named twice: both would distort the average.

    Raises:
        UserError: names the data set.
    """
    twice = [target for target in targets if targets.count(target) > 1]
    if twice:
        raise UserError(f"TARGETS contains {twice[0]} twice; name it once")
    if source in targets:
        raise UserError(f"TARGETS contains {source}, the data set of the training; leave it out")


def check_class_contexts(
    protocol: str, trainer: str, settings: Mapping[str, Any], source: str, targets: Sequence[str]
) -> None:
    """Refuse class-specific contexts (CSC) where a protocol tests on other classes than it trains on.

    Args:
        settings: values by dotted key, as YAML files or the command line give them.

    Raises:
        UserError: names the key and, for a transfer, the target.
    """
    method = trainer.removeprefix("FDBPL_").partition("_")[0]
    key = f"TRAINER.{method.upper()}.CSC"
    if str(settings.get(key, False)).lower() != "true" or protocol in ("few_shot", "train"):
        return
    same = SAME_CLASSES.get(source, ()) if protocol == "domain_generalization" else ()
    other = [target for target in targets if target not in same]
    if targets and not other:
        return
    tested = f"the classes of {other[0]}" if other else "one half of the classes at a time"
    raise UserError(
        f"{key} True learns a context for each class, which serves these classes only, but this protocol tests "
        f"{tested}. Set {key} False, or use train.sh or few_shot.sh, which test the classes that they train on"
    )


def check_epoch(run: Path, epoch: str) -> None:
    """Refuse the test of a run that does not exist, or of an epoch whose weights it does not hold.

    Args:
        epoch: "" for the last one.

    Raises:
        UserError: names the epochs that there are.
    """
    if not (run / "run.json").is_file():
        raise UserError(f"There is no training run in {run}. Run base2new_train.sh with the same arguments first")
    learned = [pointer.parent for pointer in run.glob("*/checkpoint")]
    if epoch and not all((folder / f"model.pth.tar-{epoch}").is_file() for folder in learned):
        numbers = {int(file.name.rpartition("-")[2]) for folder in learned for file in folder.glob("model.pth.tar-*")}
        there = ", ".join(map(str, sorted(numbers)))
        raise UserError(f"{run} holds no weights of epoch {epoch}, only of {there}. Set LOADEP to one of these")
