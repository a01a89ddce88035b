"""All runs below a folder: finished and unfinished, of this project and of other code bases."""

import math
import os
from dataclasses import dataclass, field
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
NUMBERS = {  # columns of a run's line in a data frame -> keys of metrics.json
    **{name: name for name in ("error_rate", "macro_f1", "balanced_accuracy", "ece", "adaptive_ece", "brier", "nll")},
    **{name: name for name in ("parameters", "steps", "processes")},
    **{f"seconds_{stage}": f"seconds.{stage}" for stage in (*STAGES, "step", "total")},
    "mib_host": "peak_memory_mib.host",
    "train_images": "protocol.train_images",
    "left_out": "left_out.count",
}
TEST_IMAGE_FACTS = ("test images", "digest of test images")  # keys of `Run.facts`
# what a file with other content than a run's raises
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OSError)


@dataclass(frozen=True)
class Problem:
    """A file or folder that gives no result, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Run(Outcome):
    """One run folder.

    Attributes:
        config, metrics, record: the whole configuration, {"A.B": value}; metrics.json and run.json.
        overrides: recorded values of the keys that the command overrides.
        path: the folder relative to the one that was searched.
        config_name: name of the configuration file with the overrides.
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
    """

    overrides: dict[str, Any]
    folder: Path
    path: str
    trainer: str
    config_name: str
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
    metrics: dict[str, Any] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.accuracy is not None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings that must be equal in runs that are averaged over seeds."""
        return settings_of(self.config)

    @cached_property
    def digest(self) -> str:
        """Digest of `settings`."""
        return digest(self.settings)

    @cached_property
    def numbers(self) -> dict[str, float]:
        """Numbers of metrics.json, {"seconds.train": value}."""
        flat = flatten(self.metrics)
        return {key: value for key, value in flat.items() if isinstance(value, int | float) and math.isfinite(value)}

    @property
    def test_images(self) -> float | None:
        """Number of images that the accuracy is measured on; None where it was not recorded."""
        return self.numbers.get("tested.images") or self.numbers.get("protocol.test_images")

    @property
    def facts(self) -> dict[str, object]:
        """Inputs of the accuracy other than the settings; None where they were not recorded."""
        sha256 = part_of(self.metrics, "tested").get("sha256")
        return {
            "test images": self.test_images,
            "digest of test images": str(sha256)[:8] if sha256 else None,
            "digest of weights": str(self.student)[:8] if self.student else None,
        }

    @cached_property
    def joint(self) -> dict[str, float]:
        """Accuracies of base and new images among all classes, from `python -m fdbpl.evaluate RUN --joint`, if any."""
        try:
            scores = read_record(self.folder / "evaluation/joint/scores.json", "scores", run=dict, joint=dict)
            values = {f"joint {half}": float(scores["joint"][half]) for half in ("base", "new")}
        except (UserError, *MALFORMED):
            return {}
        return values if scores["run"].get("fingerprint") == self.key else {}

    def as_row(self) -> dict[str, Any]:
        """The run as a line of a data frame; NaN or None where a value was not recorded."""
        names = ("trainer", "dataset", "classes", "shots", "seed", "backbone", "epochs", "accuracy", "test_images")
        return {
            **{name: getattr(self, name) for name in names},
            "config": self.config_name,
            "overrides": describe(self.overrides),
            "settings": self.digest,
            **{column: self.numbers.get(key, math.nan) for column, key in NUMBERS.items()},
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
        except MALFORMED as error:
            reason = f"its files are not those of a run ({type(error).__name__}: {error})"
            problems.append(Problem(path, printable(reason)))
    return runs, problems


def _read_run(folder: Path, path: str) -> Run:
    """A run of this project: run.json, with metrics.json and done.json if it has finished."""
    record = read_record(folder / "run.json", "the record of a run", REMEDY)
    config = rename_keys(flatten(record["config"]))
    command = [str(word) for word in record.get("command") or []]
    kind, _, rest = str(record["task"]).partition(" ")
    tested, _, epoch = rest.partition(" epoch ")
    overrides = overrides_of(command, config)
    if folder.name == f"seed{config['SEED']}" and folder.parent.parent.name == config["TRAINER.NAME"]:
        name = folder.parent.name  # layout of the scripts
    else:
        words = [word for key, value in overrides.items() for word in (key, str(value))]
        name = config_name(Path(_flag(command, "--config-file")).stem, words)
    metrics, state = _read_metrics(folder, record["fingerprint"], kind == "test")
    dataset = metrics.get("dataset") or Path(_flag(command, "--dataset-config-file")).stem or config["DATASET.NAME"]
    return _make_run(
        config,
        folder=folder,
        path=path,
        overrides=overrides,
        config_name=printable(name),
        dataset=printable(str(dataset)),
        key=str(record["fingerprint"]),
        tested=(tested or "nothing") if kind == "test" else "",
        model_dir=_normalized(_flag(command, "--model-dir")),
        epoch=int(epoch) if kind == "test" and epoch.isdigit() else None,
        accuracy=None if state else float(metrics["accuracy"]),
        state=state,
        metrics=metrics,
        record=record,
    )


def _read_metrics(folder: Path, fingerprint: object, is_test: bool) -> tuple[dict[str, Any], str]:
    """The content of metrics.json, and the progress of an unfinished run; empty for a finished one."""
    if not (folder / "done.json").is_file():
        log = _log_or_none(folder / "log.txt")
        if log and is_test:
            log.arguments["eval_only"] = "True"
        return {}, log.progress if log else "no log"
    done = read_record(folder / "done.json", "the done marker of a run", REMEDY)
    if done.get("fingerprint") != fingerprint:
        raise UserError(f"run.json and done.json in {folder} are from two different runs; {REMEDY}")
    metrics = read_record(folder / "metrics.json", "the metrics of a finished run", REMEDY)
    if not 0 <= float(metrics["accuracy"]) <= 100:
        raise UserError(
            f"The accuracy {metrics['accuracy']} in {folder / 'metrics.json'} is not a percentage; {REMEDY}"
        )
    return metrics, ""


def _read_foreign_run(folder: Path, path: str) -> Run:
    """A run of CoOp, MaPLe, PromptSRC, KDPL ..., of which only Dassl's log is known."""
    log = read_log(folder / "log.txt")
    for name, part in (("Arguments", log.arguments), ("Config", log.config)):
        if not part:
            raise UserError(
                f"{folder / 'log.txt'} has no header `** {name} **`. Only complete logs of Dassl can be read."
            )
    arguments, epoch = log.arguments, log.arguments.get("load_epoch", "")
    config: dict[str, Any] = {"TRAINER.NAME": arguments.get("trainer"), "SEED": arguments.get("seed")} | log.config
    finished = log.ended and log.accuracy is not None
    return _make_run(
        rename_keys(config),
        folder=folder,
        path=path,
        overrides=overrides_of(log.overrides, config),
        config_name=printable(config_name(Path(arguments.get("config_file", "")).stem or "default", log.overrides)),
        dataset=printable(Path(arguments.get("dataset_config_file", "")).stem or config["DATASET.NAME"]),
        key=_normalized(arguments.get("output_dir", "")),
        tested=(_normalized(arguments.get("model_dir", "")) or "nothing") if log.tests else "",
        epoch=int(epoch) if log.tests and epoch.isdigit() else None,
        exact=False,
        accuracy=log.accuracy if finished else None,
        state="" if finished else log.progress,
    )


def _make_run(config: dict[str, Any], **fields: Any) -> Run:
    """A run with the fields that are read from its configuration, whose values are texts in logs."""
    return Run(
        config=config,
        trainer=printable(str(config["TRAINER.NAME"])),
        classes=printable(str(config.get("DATASET.SUBSAMPLE_CLASSES") or "all")),
        shots=int(config.get("DATASET.NUM_SHOTS", -1)),
        seed=int(config["SEED"]),
        backbone=printable(str(config.get("MODEL.BACKBONE.NAME", ""))),
        epochs=int(config.get("OPTIM.MAX_EPOCH", 0)),
        **fields,
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


def printable(text: str) -> str:
    """Replace lone surrogates (from names that are not UTF-8) and control characters, which no file should hold."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)
