"""All runs below a folder: finished and unfinished, ours and those of other code bases."""

import math
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fdbpl.config import flatten
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json
from fdbpl.report.dassl_log import DasslLog, overrides, read_log
from fdbpl.report.settings import digest, overrides_of, settings_of
from fdbpl.runs.discovery import RUN_FILES, find_run_folders
from fdbpl.runs.environment import part_of
from fdbpl.runs.folder import config_name
from fdbpl.runs.validity import Outcome

STAGES = {
    "build": "loading",
    "prepare": "preparing",
    "train": "training",
    "test": "testing",
}  # of a run, by key of `seconds`
TEST_IMAGE_FACTS = ("test images", "digest of test images")  # of `Run.facts`


@dataclass(frozen=True)
class Problem:
    """Something below the folder that is no result, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        folder: where it lies. path: the same below the folder that was read.
        config: name of its configuration with its overrides. values: the whole configuration, {"A.B": value}.
        overrides: the recorded values of what its command line overrides.
        dataset: whose images it is tested on. classes: all, base or new.
        shots: it was trained with; -1 in tests that do not say.
        key: what tests name it by; "" = nothing. tested: the key of the run that a test is of; "" = a training.
        model_dir: folder of that run as the command names it.
        epoch: whose weights a test is of; None = the last.
        epochs: of the training.
        accuracy: in percent; None = not finished.
        exact: `accuracy` has full precision, not a log's one decimal.
        state: of an unfinished run, in words.
        metrics: its metrics.json. record: its run.json.
    """

    folder: Path
    path: str
    trainer: str
    config: str
    dataset: str
    classes: str
    shots: int
    seed: int
    backbone: str
    key: str
    tested: str = ""
    model_dir: str = ""
    epoch: int | None = None
    epochs: int = 0
    accuracy: float | None = None
    exact: bool = True
    state: str = ""
    metrics: dict = field(default_factory=dict, repr=False)
    record: dict = field(default_factory=dict, repr=False)
    values: dict[str, Any] = field(default_factory=dict, repr=False)
    overrides: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("trainer", "config", "dataset", "classes", "backbone", "state"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def finished(self) -> bool:
        return self.accuracy is not None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What has to be equal in runs that are averaged over seeds."""
        return settings_of(self.values)

    @cached_property
    def digest(self) -> str:
        """Of `settings`."""
        return digest(self.settings)

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.values, self.metrics, self.record)

    @property
    def facts(self) -> dict[str, object]:
        """What its accuracy depends on besides the settings, as far as it was recorded; None where it was not."""
        sha256 = part_of(self.metrics, "tested").get("sha256")
        return {
            "test images": self.test_images or None,
            "digest of test images": str(sha256)[:8] if sha256 else None,
            "digest of weights": str(self.outcome.student)[:8] if self.outcome.student else None,
        }

    @property
    def training_seconds(self) -> float:
        """Duration of the training in all attempts; 0 where nothing is learned, nan where it was not recorded."""
        return 0.0 if self.number("parameters") == 0 else self.seconds("train")

    @property
    def test_images(self) -> int:
        """The number of images that its accuracy is of; 0 where it was not recorded."""
        return self._recorded("tested", "images") or self._recorded("protocol", "test_images")

    @property
    def train_images(self) -> int:
        """Their number; 0 where it was not recorded."""
        return self._recorded("protocol", "train_images")

    @property
    def num_classes(self) -> int:
        """The number of classes; 0 where they were not recorded."""
        names = part_of(self.metrics, "protocol").get("classnames")
        return len(names) if isinstance(names, list) else 0

    @property
    def left_out(self) -> int:
        """The number of images that DATASET.SKIP_UNREADABLE left out."""
        return self._recorded("left_out", "count")

    def _recorded(self, part: str, name: str) -> int:
        number = part_of(self.metrics, part).get(name)
        return number if isinstance(number, int) else 0

    def seconds(self, stage: str) -> float:
        """Duration of a stage, in all attempts; nan where it was not recorded."""
        if stage != "test" and self._last_attempt_alone:
            return math.nan
        return _finite(self.metrics.get("seconds"), stage)

    @cached_property
    def _last_attempt_alone(self) -> bool:
        """An interrupted run of a version that recorded the times of the last attempt only."""
        return any(self.folder.glob("log.txt-*")) and not (self.folder / "attempts.json").is_file()

    def number(self, name: str) -> float:
        """A value of metrics.json; nan where there is none."""
        return _finite(self.metrics, name)

    def memory(self) -> float:
        """Peak memory in MiB; nan where it was not recorded."""
        return _finite(self.metrics.get("peak_memory_mib"), "host")

    def logs(self) -> list[DasslLog]:
        """The attempts, the oldest first."""
        files = sorted(self.folder.glob("log.txt-*")) + [self.folder / "log.txt"]
        found = []
        for file in files:
            try:
                found.append(read_log(file))
            except OSError:
                continue
        return found


def read_runs(output: Path) -> tuple[list[Run], list[Problem]]:
    """Every run below `output` in the order of their paths, and every folder that looks like one and cannot be read."""
    runs, problems = [], []

    def refused(error: OSError) -> None:
        problems.append(Problem(printable(str(error.filename)), f"cannot be looked into ({error.strerror})"))

    for folder, files in find_run_folders(output, refused):
        path = printable(folder.relative_to(output).as_posix())
        try:
            runs.append(_ours(folder, path) if any(name in files for name in RUN_FILES) else _others(folder, path))
        except UserError as error:
            problems.append(Problem(path, printable(_below(str(error), output))))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
            reason = f"expected the files of a run, found others ({type(error).__name__}: {error})"
            problems.append(Problem(path, printable(reason)))
    return runs, problems


# ours -------------------------------------------------------------------------------------------------------------


def _ours(folder: Path, path: str) -> Run:
    """A run with run.json, and with metrics.json and done.json if it has finished."""
    record = _object(folder / "run.json", "the record of a run")
    config = record["config"]
    values = flatten(config)
    command = [str(word) for word in record.get("command") or []]
    trainer, seed = str(config["TRAINER"]["NAME"]), int(config["SEED"])
    tested, epoch = _task(str(record["task"]))
    overrides = overrides_of(command, values)
    common: dict[str, Any] = {
        "folder": folder,
        "path": path,
        "trainer": trainer,
        "config": _config_of(folder, trainer, seed, _flag(command, "--config-file"), overrides),
        "classes": str(config["DATASET"].get("SUBSAMPLE_CLASSES", "all")),
        "shots": int(config["DATASET"]["NUM_SHOTS"]),
        "seed": seed,
        "backbone": str(config["MODEL"]["BACKBONE"]["NAME"]),
        "key": str(record["fingerprint"]),
        "tested": tested,
        "model_dir": _place(_flag(command, "--model-dir")),
        "epoch": epoch,
        "epochs": int(config["OPTIM"]["MAX_EPOCH"]),
        "record": record,
        "values": values,
        "overrides": overrides,
    }
    named = Path(_flag(command, "--dataset-config-file")).stem or str(config["DATASET"]["NAME"])
    if not (folder / "done.json").is_file():
        return Run(dataset=named, state=_how_far(folder, bool(tested)), **common)
    done = _object(folder / "done.json", "the done marker of a run")
    if done.get("fingerprint") != record["fingerprint"]:
        raise UserError(f"expected run.json and done.json of one run in {folder}, found those of two; run it again")
    metrics = _object(folder / "metrics.json", "the metrics of a finished run")
    if "trainer" in metrics and "accuracy" not in metrics:
        return Run(dataset=named, state="trained without a test (TEST.NO_TEST)", metrics=metrics, **common)
    accuracy = float(metrics["accuracy"])
    if not 0 <= accuracy <= 100:
        raise UserError(f"expected an accuracy in percent in {folder / 'metrics.json'}, found {accuracy}; run it again")
    return Run(dataset=str(metrics.get("dataset") or named), accuracy=accuracy, metrics=metrics, **common)


def _object(file: Path, what: str) -> dict:
    content = read_json(file, what)
    if not isinstance(content, dict):
        raise UserError(f"expected {what} in {file}, found {type(content).__name__}; run it again")
    return content


def _task(task: str) -> tuple[str, int | None]:
    """Key of the tested run and epoch of its weights: of "test <fingerprint> epoch <E>"."""
    kind, _, rest = task.partition(" ")
    if kind != "test":
        return "", None
    tested, _, epoch = rest.partition(" epoch ")
    return tested or "nothing", int(epoch) if epoch.isdigit() else None


def _config_of(folder: Path, trainer: str, seed: int, file: str, overrides: dict[str, Any]) -> str:
    """<Trainer>/<config>/seed<S> is the scripts' layout; elsewhere the configuration file's name and the overrides."""
    if folder.name == f"seed{seed}" and folder.parent.parent.name == trainer:
        return folder.parent.name
    return config_name(Path(file).stem, [word for key, value in overrides.items() for word in (key, str(value))])


def _flag(command: list[str], name: str) -> str:
    return command[command.index(name) + 1] if name in command[:-1] else ""


def _how_far(folder: Path, test: bool) -> str:
    """How far an unfinished run has come."""
    try:
        log = read_log(folder / "log.txt")
    except OSError:
        return "no log"
    return _progress(log, test)


def _progress(log: DasslLog, test: bool) -> str:
    if log.ended:
        return "trained, in its test"
    if log.epoch and not test:
        return f"at epoch {log.epoch} of {log.epochs}"
    return "in its test" if test else "in its first epoch"


# other code bases' -------------------------------------------------------------------------------------------------


def _others(folder: Path, path: str) -> Run:
    """A folder with nothing but Dassl's log: CoOp, MaPLe, PromptSRC, KDPL ..."""
    log = read_log(folder / "log.txt")
    missing = [name for name, part in (("Arguments", log.arguments), ("Config", log.config)) if not part]
    if missing:
        raise UserError(
            f"expected a log of Dassl in {folder / 'log.txt'}, found no header `** {missing[0]} **`; give the whole log"
        )
    arguments, config = log.arguments, log.config
    given, words = arguments.get("config_file", ""), overrides(log)
    common: dict[str, Any] = {
        "folder": folder,
        "path": path,
        "trainer": config.get("TRAINER.NAME") or arguments["trainer"],
        "config": config_name(Path(given).stem or "default", words),
        "dataset": Path(arguments.get("dataset_config_file", "")).stem or config["DATASET.NAME"],
        "classes": config.get("DATASET.SUBSAMPLE_CLASSES") or "all",
        "shots": int(config.get("DATASET.NUM_SHOTS") or -1),
        "seed": int(config.get("SEED") or arguments["seed"]),
        "backbone": config.get("MODEL.BACKBONE.NAME") or "",
        "key": _place(arguments.get("output_dir", "")),
        "epochs": int(config.get("OPTIM.MAX_EPOCH") or 0),
        "exact": False,
        "values": dict(config),
        "overrides": overrides_of(words, config),
    }
    if log.tests:
        epoch = arguments.get("load_epoch", "")
        common["tested"] = _place(arguments.get("model_dir", "")) or "nothing"
        common["epoch"] = int(epoch) if epoch.isdigit() else None
    if not log.ended or log.accuracy is None:
        return Run(state=_progress(log, log.tests), **common)
    return Run(accuracy=log.accuracy, **common)


def _place(folder: str) -> str:
    """A folder as logs name it, in one spelling."""
    return os.path.normpath(folder) if folder else ""


# --------------------------------------------------------------------------------------------------------------------


def _finite(values: object, name: str) -> float:
    value = values.get(name) if isinstance(values, dict) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def printable(text: str) -> str:
    """`text` as a file can hold it: without halves of characters (names that are no UTF-8) and control characters."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def _below(sentence: str, output: Path) -> str:
    """Paths in a sentence from `output` on: the report is read elsewhere too."""
    return re.sub(re.escape(f"{output}/"), "", sentence)
