"""Is a run folder what it says it is? Its configuration, classes, checkpoints, numbers and log against each other."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fdbpl.backbones import weights_available, weights_sha256
from fdbpl.config import RENAMED_KEYS, flatten, read_yaml
from fdbpl.errors import UserError
from fdbpl.findings import NOTE, OK, WRONG, Finding
from fdbpl.io.atomic import read_record
from fdbpl.runs.dassl_log import read_log
from fdbpl.runs.environment import describe_environment, part_of
from fdbpl.runs.folder import fingerprint
from fdbpl.runs.validity import Outcome, mismatch, tested_on_validation

AGAIN = "delete the folder and run it again"


class Wrong(Exception):
    """What does not hold, and what to do."""


@dataclass(frozen=True)
class Recorded:
    """What lies in a run folder.

    Attributes:
        record: run.json. done: done.json, and metrics: metrics.json; empty where the run has not finished.
        known: folders of other runs by fingerprint.
    """

    folder: Path
    record: dict
    done: dict
    metrics: dict
    known: Mapping[str, Path]

    @property
    def tests(self) -> bool:
        return str(self.record["task"]).startswith("test")

    @property
    def config(self) -> dict:
        """{"A.B": value}"""
        return flatten(self.record["config"])

    @property
    def outcome(self) -> Outcome:
        return Outcome(self.config, self.metrics, self.record)


def verify_run(folder: Path, known: Mapping[str, Path] | None = None) -> Iterator[Finding]:
    """What there is to say of one run folder.

    Args:
        known: folders of other runs by fingerprint, to find the one that a test is of.
    """
    try:
        run = _read(Path(folder), known or {})
    except (UserError, Wrong) as error:
        yield Finding(WRONG, folder, str(error))
        return
    held, failed = [], False
    for look in (_configuration, _weights, _classes, _checkpoints, _checksums, _log, _tested_run):
        try:
            held.append(look(run))
        except (UserError, Wrong) as error:
            failed = True
            yield Finding(WRONG, folder, str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            failed = True
            found = f"{look.__name__.strip('_')}: {type(error).__name__}: {error}"
            yield Finding(WRONG, folder, f"expected the files of a run, found others ({found}); {AGAIN}")
    if not failed:
        result = f"accuracy {run.metrics['accuracy']:.2f}" if run.metrics else "not finished yet"
        yield Finding(OK, folder, ", ".join([*filter(None, held), result]))
        if run.metrics and (reason := tested_on_validation(run.outcome)):
            yield Finding(NOTE, folder, reason)
    code = _other_code(run)
    if code:
        yield Finding(NOTE, folder, code)


def fingerprint_of(folder: Path) -> str:
    """What run.json says; "" where it says nothing."""
    try:
        return str(read_record(folder / "run.json", "the record of a run", AGAIN).get("fingerprint", ""))
    except (UserError, Wrong):
        return ""


def _read(folder: Path, known: Mapping[str, Path]) -> Recorded:
    record = read_record(folder / "run.json", "the record of a run", AGAIN)
    missing = [key for key in ("fingerprint", "task", "config") if key not in record]
    if missing:
        raise Wrong(f"expected {', '.join(missing)} in run.json, found none; {AGAIN}")
    done, metrics = {}, {}
    if (folder / "done.json").is_file():
        done = read_record(folder / "done.json", "the done marker of a run", AGAIN)
        metrics = read_record(folder / "metrics.json", "the metrics of a finished run", AGAIN)
        if done.get("fingerprint") != record["fingerprint"]:
            raise Wrong(f"expected run.json and done.json of one run, found those of two; {AGAIN}")
    return Recorded(folder, record, done, metrics, known)


# each raises Wrong, or says what holds -----------------------------------------------------------------------------


def _configuration(run: Recorded) -> str:
    expected = fingerprint(run.record["config"], run.record["task"], run.record.get("inputs"))
    renamed = RENAMED_KEYS.keys() & flatten(run.record["config"]).keys()  # the fingerprint was made of the old names
    if expected != run.record["fingerprint"] and not renamed:
        raise Wrong(f"expected the configuration that run.json's fingerprint is of, found another; {AGAIN}")
    written, recorded = read_yaml(str(run.folder / "config.yaml")), run.config
    differing = [key for key in sorted(written.keys() | recorded.keys()) if written.get(key) != recorded.get(key)]
    if differing:
        found = f"{differing[0]} {written.get(differing[0])!r} and {recorded.get(differing[0])!r}"
        raise Wrong(f"expected config.yaml and run.json of one run, found {found}; {AGAIN}")
    return "configuration as its fingerprint says"


def _weights(run: Recorded) -> str:
    """The weights of the student's CLIP, where the run has recorded them and they are here."""
    recorded, name = (run.record.get("inputs") or {}).get("student"), run.config["MODEL.BACKBONE.NAME"]
    found = _sha256_of(name) if recorded else None
    if found not in (None, recorded):
        raise Wrong(
            f"The weights of {name} have changed: the run recorded SHA-256 {recorded:.12}, the file has {found:.12}; "
            f"restore the file or {AGAIN}"
        )
    return ""


@cache
def _sha256_of(name: str) -> str | None:
    """The hash of a CLIP's weights; None where they are not here."""
    try:
        return weights_sha256(name) if weights_available(name) else None
    except UserError:
        return None


def _classes(run: Recorded) -> str:
    """Metrics and configuration speak of the same run; so do the metrics among themselves."""
    if not run.metrics:
        return ""
    protocol, config, metrics = run.metrics["protocol"], run.config, run.metrics
    for name, found, key in (
        ("trainer", metrics["trainer"], "TRAINER.NAME"),
        ("seed", metrics["seed"], "SEED"),
        ("classes", protocol["subsample"], "DATASET.SUBSAMPLE_CLASSES"),
        ("shots", protocol["shots"], "DATASET.NUM_SHOTS"),
    ):
        if key in config and found != config[key]:
            raise Wrong(f"expected {name} {config[key]!r} in metrics.json, as the configuration says, found {found!r}; "
                        f"{AGAIN}")  # fmt: skip
    accuracy, error = metrics["accuracy"], metrics["error_rate"]
    if not math.isclose(accuracy + error, 100, abs_tol=1e-6) or not 0 <= accuracy <= 100:
        raise Wrong(f"expected accuracy and error rate of 100 % together, found {accuracy} and {error}; {AGAIN}")
    names = protocol["classnames"]
    if not names or not all(isinstance(name, str) for name in names):
        raise Wrong(f"expected a list of class names in metrics.json, found {names!r}; {AGAIN}")
    return f"{len(names)} classes"


def _checkpoints(run: Recorded) -> str:
    """Every module's last checkpoint can be read, is of the last epoch, and is of the classes that the metrics name."""
    if run.tests:
        return ""
    learners = sorted(pointer.parent for pointer in run.folder.glob("*/checkpoint"))
    if not learners:
        if run.metrics.get("parameters"):
            raise Wrong(f"expected checkpoints of what was learnt, found none; {AGAIN}")
        return ""
    checkpoint = _checkpoint_module()
    last = {folder.name: max(checkpoint.epochs(folder), default=0) for folder in learners}
    epochs = run.config["OPTIM.MAX_EPOCH"]
    if run.done and set(last.values()) != {epochs}:
        found = ", ".join(f"{name} of epoch {epoch}" for name, epoch in last.items())
        raise Wrong(f"expected checkpoints of epoch {epochs}, found {found}; delete done.json and run it again")
    for folder in learners if min(last.values()) else ():
        _readable(checkpoint, folder / f"model.pth.tar-{last[folder.name]}", last[folder.name], run.metrics)
    return f"{', '.join(last)} of epoch {min(last.values())}"


def _readable(checkpoint, path: Path, epoch: int, metrics: dict) -> None:
    content = checkpoint.read(path)
    if content.get("epoch") != epoch:
        raise Wrong(f"expected a checkpoint of epoch {epoch} in {path}, found that of {content.get('epoch')}; {AGAIN}")
    for key, value in content["state_dict"].items():
        if value.is_floating_point() and not value.isfinite().all():
            raise Wrong(f"expected finite numbers in {path}, found others in {key}; {AGAIN}")
        names = metrics["protocol"]["classnames"] if metrics else None
        if names and key.endswith(("token_prefix", "token_suffix")) and len(value) != len(names):
            raise Wrong(f"expected {len(names)} classes in {path}, as metrics.json says, found {len(value)}; {AGAIN}")


@cache
def _checkpoint_module():
    from fdbpl.engine import checkpoint

    return checkpoint


def _checksums(run: Recorded) -> str:
    """The bytes of what the done marker names; older ones name nothing."""
    written = run.done.get("sha256", {})
    for name, expected in written.items():
        file = run.folder / name
        if not file.is_file():
            raise Wrong(f"expected the file {name}, found none; restore it or {AGAIN}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise Wrong(f"expected {name} as it was when the run finished, found other bytes; restore it or {AGAIN}")
    return f"{len(written)} checksums" if written else ""


def _log(run: Recorded) -> str:
    """The last accuracy that the log prints is that of metrics.json, to the log's one decimal."""
    file = run.folder / "log.txt"
    printed = read_log(file).accuracy if run.metrics and file.is_file() else None
    if printed is None:
        return ""
    if f"{printed:.1f}" != f"{run.metrics['accuracy']:.1f}":
        found = run.metrics["accuracy"]
        raise Wrong(f"expected the accuracy {printed:.1f} of log.txt in metrics.json, found {found}; {AGAIN}")
    return "the log's accuracy"


def _tested_run(run: Recorded) -> str:
    """The training that a test is of, and that both name the classes as their protocol wants."""
    words = str(run.record["task"]).split()
    if not run.tests or len(words) < 2:
        return ""
    tested_key, named = words[1], _flag(run.record.get("command") or [], "--model-dir")
    folder = run.known.get(tested_key) or Path(named or "nowhere")
    if not (folder / "run.json").is_file():
        return f"a test of a run that is not here ({named})"
    if fingerprint_of(folder) != tested_key:
        raise Wrong(f"expected the run that it tested in {folder}, found another one; test that run again")
    record, file = read_record(folder / "run.json", "the record of a run", AGAIN, config=dict), folder / "metrics.json"
    metrics = read_record(file, "the metrics of a finished run", AGAIN) if file.is_file() else {}
    reason = mismatch(Outcome(flatten(record["config"]), metrics, record), run.outcome)
    if reason:
        raise Wrong(f"{reason} ({folder}); {AGAIN}")
    return f"a test of {folder}"


def _flag(command: list, name: str) -> str:
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word == name:
            return str(following)
        if str(word).startswith(f"{name}="):
            return str(word).partition("=")[2]
    return ""


# the code ----------------------------------------------------------------------------------------------------------


def _other_code(run: Recorded) -> str:
    """How what made the run differs from what is here, in a sentence; "" = not at all."""
    here, there = _environment(), run.record
    differing = []
    for what, show in _VERSIONS.items():
        found, own = show(there), show(here)
        if found != own and found is not None:
            differing.append(f"{what} {found} (here {own})")
    return f"made by {', '.join(differing)}" if differing else ""


def _commit(environment: dict) -> str | None:
    code = part_of(environment, "code")
    if not code.get("commit"):
        return None
    return str(code["commit"])[:12] + " with changes" * bool(code.get("modified"))


_VERSIONS: dict[str, Callable[[dict], str | None]] = {
    "version": lambda environment: part_of(environment, "code").get("version"),
    "commit": _commit,
    "torch": lambda environment: part_of(environment, "packages").get("torch"),
}

_environment = cache(describe_environment)
