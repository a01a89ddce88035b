"""All runs below a folder: finished and unfinished, of this project and of other code bases."""

import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fdbpl.config import flatten, rename_keys
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record
from fdbpl.report.settings import describe, digest, overrides_of, settings_of
from fdbpl.runs.dassl_log import DasslLog, read_log
from fdbpl.runs.discovery import RUN_FILES, find_run_folders
from fdbpl.runs.environment import part_of
from fdbpl.runs.folder import REMEDY, config_name
from fdbpl.runs.validity import Outcome

STAGES = {  # names of the stages by their keys in `seconds` of metrics.json
    "build": "loading",
    "prepare": "preparing",
    "train": "training",
    "test": "testing",
}
TEST_IMAGE_FACTS = ("test images", "digest of test images")  # keys of `Run.facts`


@dataclass(frozen=True)
class Problem:
    """A file or folder that gives no result, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Run:
    """One run folder.

    Attributes:
        path: the folder relative to the one that was searched.
        config: name of the configuration file with the overrides.
        values: the whole configuration, {"A.B": value}.
        overrides: recorded values of the keys that the command overrides.
        dataset: the data set whose images the run is tested on.
        classes: all, base or new.
        shots: of the training; -1 = all images, or a test whose log does not say.
        key: identifies the run in its tests: the fingerprint, or the output folder in logs of other code bases.
        tested: key of the run that a test loads, "nothing" for a test without one; empty for a training.
        model_dir: folder of the loaded run as given on the command line.
        epoch: epoch of the weights that a test loads; None = the last.
        epochs: length of the training.
        accuracy: in percent; None = not finished.
        exact: whether the accuracy has full precision; logs have one decimal.
        state: progress of an unfinished run.
        metrics, record: metrics.json and run.json.
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
        """Settings that must be equal in runs that are averaged over seeds."""
        return settings_of(self.values)

    @cached_property
    def digest(self) -> str:
        """Digest of `settings`."""
        return digest(self.settings)

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.values, self.metrics, self.record)

    @property
    def facts(self) -> dict[str, object]:
        """Inputs of the accuracy besides the settings; None where they were not recorded."""
        sha256 = part_of(self.metrics, "tested").get("sha256")
        return {
            "test images": self.test_images or None,
            "digest of test images": str(sha256)[:8] if sha256 else None,
            "digest of weights": str(self.outcome.student)[:8] if self.outcome.student else None,
        }

    @property
    def test_images(self) -> int:
        """Number of images that the accuracy is measured on; 0 where it was not recorded."""
        return self._count("tested", "images") or self._count("protocol", "test_images")

    @property
    def train_images(self) -> int:
        """Number of training images; 0 where it was not recorded."""
        return self._count("protocol", "train_images")

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 where they were not recorded."""
        return len(self.outcome.classnames)

    @property
    def left_out(self) -> int:
        """Number of images that DATASET.SKIP_UNREADABLE left out."""
        return self._count("left_out", "count")

    def _count(self, part: str, name: str) -> int:
        number = part_of(self.metrics, part).get(name)
        return number if isinstance(number, int) else 0

    def seconds(self, stage: str) -> float:
        """Duration of a stage in all attempts; NaN where it was not recorded."""
        if stage != "test" and self._only_last_attempt_timed:
            return math.nan
        return _finite(part_of(self.metrics, "seconds").get(stage))

    @cached_property
    def _only_last_attempt_timed(self) -> bool:
        """Whether an earlier version recorded an interrupted run, with the times of the last attempt only."""
        return any(self.folder.glob("log.txt-*")) and not (self.folder / "attempts.json").is_file()

    def number(self, name: str) -> float:
        """A value of metrics.json; NaN where there is none."""
        return _finite(self.metrics.get(name))

    def as_row(self) -> dict[str, Any]:
        """The run as a line of a data frame; NaN or None where a value was not recorded."""
        return {
            "trainer": self.trainer,
            "config": self.config,
            "overrides": describe(self.overrides),
            "settings": self.digest,
            "dataset": self.dataset,
            "classes": self.classes,
            "shots": self.shots,
            "seed": self.seed,
            "backbone": self.backbone,
            "epochs": self.epochs,
            "accuracy": self.accuracy,
            **{name: self.number(name) for name in ("error_rate", "macro_f1", "parameters", "steps", "processes")},
            "train_images": self.train_images or None,
            "test_images": self.test_images or None,
            "left_out": self.left_out or None,
            **{f"seconds_{stage}": self.seconds(stage) for stage in (*STAGES, "step", "total")},
            "mib_host": _finite(part_of(self.metrics, "peak_memory_mib").get("host")),
            "folder": self.path,
        }

    def logs(self) -> list[DasslLog]:
        """Logs of all attempts, the oldest first."""
        files = [*sorted(self.folder.glob("log.txt-*")), self.folder / "log.txt"]
        return [log for log in map(_log_or_none, files) if log]


def read_runs(output: Path) -> tuple[list[Run], list[Problem]]:
    """All runs below `output` in the order of their paths, and the folders that cannot be read."""
    runs, problems = [], []

    def on_error(error: OSError) -> None:
        problems.append(Problem(printable(str(error.filename)), f"cannot be read ({error.strerror})"))

    for folder, files in find_run_folders(output, on_error):
        path = printable(folder.relative_to(output).as_posix())
        try:
            runs.append(_read_run(folder, path) if files.intersection(RUN_FILES) else _read_foreign_run(folder, path))
        except UserError as error:
            problems.append(Problem(path, printable(str(error).replace(f"{output}/", ""))))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError) as error:
            reason = f"its files are not those of a run ({type(error).__name__}: {error})"
            problems.append(Problem(path, printable(reason)))
    return runs, problems


def _read_run(folder: Path, path: str) -> Run:
    """A run of this project: run.json, with metrics.json and done.json if it has finished."""
    record = read_record(folder / "run.json", "the record of a run", REMEDY)
    config = record["config"]
    values = rename_keys(flatten(config))
    command = [str(word) for word in record.get("command") or []]
    trainer, seed = str(config["TRAINER"]["NAME"]), int(config["SEED"])
    kind, _, rest = str(record["task"]).partition(" ")
    tested, _, epoch = rest.partition(" epoch ")
    overrides = overrides_of(command, values)
    if folder.name == f"seed{seed}" and folder.parent.parent.name == trainer:  # layout of the scripts
        name = folder.parent.name
    else:
        words = [word for key, value in overrides.items() for word in (key, str(value))]
        name = config_name(Path(_flag(command, "--config-file")).stem, words)
    run = Run(
        folder=folder,
        path=path,
        trainer=trainer,
        config=name,
        dataset=Path(_flag(command, "--dataset-config-file")).stem or str(config["DATASET"]["NAME"]),
        classes=str(config["DATASET"].get("SUBSAMPLE_CLASSES", "all")),
        shots=int(config["DATASET"]["NUM_SHOTS"]),
        seed=seed,
        backbone=str(config["MODEL"]["BACKBONE"]["NAME"]),
        key=str(record["fingerprint"]),
        tested=(tested or "nothing") if kind == "test" else "",
        model_dir=_normalized(_flag(command, "--model-dir")),
        epoch=int(epoch) if kind == "test" and epoch.isdigit() else None,
        epochs=int(config["OPTIM"]["MAX_EPOCH"]),
        record=record,
        values=values,
        overrides=overrides,
    )
    if not (folder / "done.json").is_file():
        log = _log_or_none(folder / "log.txt")
        if log and run.tested:
            log.arguments["eval_only"] = "True"
        return replace(run, state=log.progress if log else "no log")
    done = read_record(folder / "done.json", "the done marker of a run", REMEDY)
    if done.get("fingerprint") != run.key:
        raise UserError(f"run.json and done.json in {folder} are from two different runs; {REMEDY}")
    metrics = read_record(folder / "metrics.json", "the metrics of a finished run", REMEDY)
    if "trainer" in metrics and "accuracy" not in metrics:
        return replace(run, state="trained without a test (TEST.NO_TEST)", metrics=metrics)
    accuracy = float(metrics["accuracy"])
    if not 0 <= accuracy <= 100:
        raise UserError(f"The accuracy {accuracy} in {folder / 'metrics.json'} is not a percentage; {REMEDY}")
    return replace(run, dataset=str(metrics.get("dataset") or run.dataset), accuracy=accuracy, metrics=metrics)


def _read_foreign_run(folder: Path, path: str) -> Run:
    """A run of CoOp, MaPLe, PromptSRC, KDPL ..., of which only Dassl's log is known."""
    log = read_log(folder / "log.txt")
    for name, part in (("Arguments", log.arguments), ("Config", log.config)):
        if not part:
            raise UserError(
                f"{folder / 'log.txt'} has no header `** {name} **`. Only complete logs of Dassl can be read."
            )
    arguments, config = log.arguments, log.config
    epoch, finished = arguments.get("load_epoch", ""), log.ended and log.accuracy is not None
    return Run(
        folder=folder,
        path=path,
        trainer=config.get("TRAINER.NAME") or arguments["trainer"],
        config=config_name(Path(arguments.get("config_file", "")).stem or "default", log.overrides),
        dataset=Path(arguments.get("dataset_config_file", "")).stem or config["DATASET.NAME"],
        classes=config.get("DATASET.SUBSAMPLE_CLASSES") or "all",
        shots=int(config.get("DATASET.NUM_SHOTS") or -1),
        seed=int(config.get("SEED") or arguments["seed"]),
        backbone=config.get("MODEL.BACKBONE.NAME") or "",
        key=_normalized(arguments.get("output_dir", "")),
        tested=(_normalized(arguments.get("model_dir", "")) or "nothing") if log.tests else "",
        epoch=int(epoch) if log.tests and epoch.isdigit() else None,
        epochs=int(config.get("OPTIM.MAX_EPOCH") or 0),
        exact=False,
        values=rename_keys(config),
        overrides=overrides_of(log.overrides, config),
        accuracy=log.accuracy if finished else None,
        state="" if finished else log.progress,
    )


def _flag(command: list[str], name: str) -> str:
    return command[command.index(name) + 1] if name in command[:-1] else ""


def _log_or_none(file: Path) -> DasslLog | None:
    try:
        return read_log(file)
    except OSError:
        return None


def _normalized(folder: str) -> str:
    return os.path.normpath(folder) if folder else ""


def _finite(value: object) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else math.nan


def printable(text: str) -> str:
    """Replace lone surrogates (from names that are not UTF-8) and control characters, which no file should hold."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
