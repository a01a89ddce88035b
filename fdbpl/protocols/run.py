"""Run a protocol for one data set, seed and trainer: one Python process for each of its steps."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fdbpl.config import pairs
from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.errors import UserError, quoted
from fdbpl.interruption import Terminated
from fdbpl.io.atomic import read_json
from fdbpl.protocols.checks import check_epoch
from fdbpl.protocols.configs import (
    check_dataset,
    check_weights,
    config_folder,
    default_student,
    existing_config_file,
    is_demo,
)
from fdbpl.protocols.grid import Cell, Grid, Row
from fdbpl.protocols.protocol import PROTOCOLS, Step
from fdbpl.runs.results import base2new_line, few_shot_line, transfer_line
from fdbpl.runs.targets import DEFAULT_TARGETS

FEW_SHOTS = "1 2 4 8 16"


def variable(name: str, default: str = "") -> str:
    """An environment variable; one that is empty counts as not set."""
    return os.environ.get(name) or default


def protocol_name(name: str) -> str:
    """`base2new_all` for base2new with LEARN=all, else `name`.

    Raises:
        UserError: another LEARN, or a protocol that always trains on all classes.
    """
    learn = variable("LEARN")
    if name == "base2new" and learn in ("", "base", "all"):
        return "base2new_all" if learn == "all" else name
    if name == "base2new":
        raise UserError(f"LEARN must be base or all, found {quoted(learn)}")
    if learn:
        raise UserError(f"LEARN applies to base2new only; {name} always trains on all classes. Unset LEARN")
    return name


def targets_of(protocol: str, dataset: str) -> tuple[str, ...]:
    """The data sets to test on: TARGETS, or the defaults of the source data set; none for protocols without targets.

    Raises:
        UserError: there are none, or one is not a data set.
    """
    if not PROTOCOLS[protocol].transfers:
        return ()
    targets = tuple(variable("TARGETS", " ".join(DEFAULT_TARGETS[protocol].get(dataset, ()))).split())
    if not targets:
        raise UserError(
            f"Set TARGETS, the data sets to test on: {dataset} has no default targets in {protocol} (imagenet and demo "
            "have). Example: TARGETS='caltech101 dtd'"
        )
    for target in targets:
        check_dataset(target, "TARGETS:")
    return targets


def default_shots(protocol: str) -> str:
    return {"few_shot": FEW_SHOTS, "train": "-1"}.get(protocol, "16")


def shots_of(protocol: str) -> list[str]:
    """The numbers of images per class: SHOTS, or the default of the protocol; "-1" stands for all images."""
    return ["-1" if word == "all" else word for word in variable("SHOTS", default_shots(protocol)).split()]


@dataclass(frozen=True)
class OwnImages:
    """The user's images, which stand for the data set `folder`."""

    place: str
    name: str
    digest: str

    @classmethod
    def read(cls, place: str) -> "OwnImages":
        found = read_custom_data(place)
        return cls(str(found.place), found.name, found.digest)

    @property
    def overrides(self) -> list[str]:
        return ["DATASET.FOLDER", self.place, "DATASET.FOLDER_DIGEST", self.digest]


def own_image_places(dataset: str, targets: Sequence[str]) -> tuple[str, str]:
    """Paths of the user's images (data set `folder`) for the training and for the tests on targets; "" stands for none.

    Raises:
        UserError: they are not named, or both are the same.
    """
    source = variable("IMAGES") or (variable("DATA") if dataset == "folder" else "")
    if dataset == "folder" and not source:
        raise UserError(
            "IMAGES does not name your images, a folder with one sub-folder per class or a CSV file. Example: "
            "IMAGES=my_photos"
        )
    if "folder" not in targets:
        return source, ""
    target = variable("TARGET_IMAGES", source)
    if not target:
        raise UserError(
            "TARGETS contains folder, your own images, but IMAGES does not name them. Example: IMAGES=my_photos"
        )
    if dataset == "folder" and os.path.realpath(target) == os.path.realpath(source):
        raise UserError(
            f"The target folder would be the source itself ({source}). Name other images in TARGET_IMAGES, or remove "
            "folder from TARGETS"
        )
    return source, target


class ProtocolRun:
    """A protocol for one data set, seed and trainer.

    Args:
        protocol: its name. words: [DATASET] [SEED] [TRAINER] [KEY VALUE ...]; the defaults are demo 1 FDBPL.

    Environment variables: see the scripts.

    Raises:
        UserError: an argument or a variable cannot be used.
    """

    def __init__(self, protocol: str, words: Sequence[str]):
        given = [*words[:3], "", "", ""]
        self.dataset, self.seed, self.trainer = given[0] or "demo", given[1] or "1", given[2] or "FDBPL"
        self.overrides = [word for word in words[3:] if word != "--"]
        self.protocol = PROTOCOLS[protocol_name(protocol)]
        self.output = Path(variable("OUTPUT", "output"))
        self.shots = " ".join(shots_of(protocol))
        check_dataset(self.dataset)
        config_folder(self.trainer)
        self._check_numbers()
        self.targets = targets_of(self.protocol.name, self.dataset)
        self.images, self.target_images = own_image_places(self.dataset, self.targets)
        check_weights(self.dataset, self.overrides)
        student = variable("STUDENT", default_student(self.dataset))
        self.config_file = existing_config_file(self.trainer, self.protocol.name, student)
        pairs(self.overrides)

    def _check_numbers(self) -> None:
        if not re.fullmatch(r"0|[1-9]\d*", self.seed, re.ASCII):
            raise UserError(f"SEED must be a whole number without leading zeros, found {quoted(self.seed)}")
        several = self.protocol.name == "few_shot"
        number = r"(-1|[1-9]\d*)"
        if not re.fullmatch(f"{number}( {number})*" if several else number, self.shots, re.ASCII):
            what = "numbers" if several else "a number"
            raise UserError(
                f"SHOTS must be {what} of images of each class (all: all images), found {quoted(self.shots)}. Example: "
                f"SHOTS='{FEW_SHOTS if several else 16}'"
            )
        if not re.fullmatch(r"[1-9]\d*|gpu|cpu|auto", variable("NPROC", "1"), re.ASCII):
            raise UserError(f"NPROC must be a number of processes, found {quoted(variable('NPROC'))}. Example: NPROC=2")

    def cells(self) -> list[Cell]:
        """Read own images where there are any, and check what the protocol can do."""
        self.own = OwnImages.read(self.images) if self.dataset == "folder" else None
        self.target_own = OwnImages.read(self.target_images) if "folder" in self.targets else None
        targets = self.targets
        if self.target_own:
            targets = tuple(f"folder:{self.target_own.name}" if name == "folder" else name for name in targets)
        row = Row(
            self.dataset, targets, self.trainer, self.trainer, self.config_file, own=self.own.name if self.own else ""
        )
        return Grid(
            self.protocol.name, self.output, [row], [self.seed], self.shots.split(), tuple(self.overrides)
        ).cells

    @property
    def images_text(self) -> str:
        """The number of training images per class in words."""
        shots = self.shots.replace("-1", "all")
        return "all images" if shots == "all" else f"up to {shots} images"

    def train_py(self, dataset: str, folder: Path, classes: str, shots: str, *flags: str, target: bool = False) -> int:
        """Run train.py in a process of its own; its exit code.

        Args:
            target: the data set is one of the targets.
        """
        own = (self.target_own if target else self.own) if dataset == "folder" else None
        root = variable("SYNTHETIC", f"{self.output}/synthetic") if is_demo(dataset) else variable("DATA", "data")
        count = variable("NPROC", "1")
        torchrun = [] if count == "1" else ["-m", "fdbpl.torchrun", "--standalone", "--nproc_per_node", count]
        return run_attached([
            sys.executable, *torchrun, "train.py",
            "--root", root,
            "--seed", self.seed,
            "--trainer", self.trainer,
            "--dataset-config-file", f"configs/datasets/{dataset}.yaml",
            "--config-file", str(self.config_file),
            "--output-dir", str(folder),
            *(["--deterministic"] if variable("DETERMINISTIC") else []), *flags,
            "REGIONS.ROOT", f"{self.output}/regions",
            "TEST.FEATURE_CACHE_DIR", f"{self.output}/features",
            "DATASET.FEWSHOT_DIR", f"{self.output}/split_fewshot",
            "DATASET.NUM_SHOTS", shots,
            "DATASET.SUBSAMPLE_CLASSES", classes,
            *(own.overrides if own else []),
            *self.overrides,
        ])  # fmt: skip

    def run_step(self, step: Step, shots: str, *flags: str) -> int:
        target = step.folder.startswith("evaluation/")
        if step.kind == "bank":
            flags = ("--generate-regions",)
        elif step.kind == "test":
            flags = ("--eval-only", "--model-dir", str(self.output / step.trained), *flags)
        return self.train_py(step.dataset, self.output / step.folder, step.classes, shots, *flags, target=target)


def run_protocol(protocol: str, words: Sequence[str]) -> int:
    """Train and test, then print the result in one line.

    A target whose test fails does not stop the tests on other targets; it is named in the result.

    Returns:
        The exit code: 0, or that of the step that failed.
    """
    run = ProtocolRun(protocol, words)
    print(_introduction(run), flush=True)
    folders, untested, status = [], [], 0
    for cell in run.cells():
        for step in cell.steps:
            code = run.run_step(step, cell.shots)
            if code == 0:
                folders += [run.output / step.folder] if step.kind != "bank" else []
            elif step.folder.startswith("evaluation/") and code < 128:
                status = code
                untested.append(step.folder.split("/")[1])
            else:
                return code
    name = run.protocol.name
    if name == "few_shot":
        print(*(f"Run folder: {folder}" for folder in folders), sep="\n")
        print(few_shot_line(folders))
    elif name == "train":
        print(_next_commands(folders[0]))
        print(few_shot_line(folders))
    elif run.protocol.transfers:
        print(transfer_line(folders[0], folders[1:], untested))
    else:
        base, new = folders[-2:]
        if variable("JOINT"):
            status = _evaluate_joint(folders[0])
        print(base2new_line(base, new, "all" if name == "base2new_all" else "base"))
    return status


def _evaluate_joint(folder: Path) -> int:
    """Classify the test images of both halves among all classes, unless this was done; the exit code."""
    file = folder / "evaluation" / "joint" / "scores.json"
    if not file.is_file():
        return run_attached([sys.executable, "-m", "fdbpl.evaluate", str(folder), "--joint"])
    joint = read_json(file, "the scores of an evaluation")["joint"]
    print(f"Joint: base {joint['base']:.2f} new {joint['new']:.2f} H {joint['H']:.2f}")
    return 0


def _next_commands(folder: Path) -> str:
    """The folder of a finished run, and the commands that use it."""
    python = os.path.relpath(sys.executable) if Path(sys.executable).is_relative_to(Path.cwd()) else sys.executable
    program, path = shlex.quote(python), shlex.quote(str(folder))
    return (
        f"Run folder: {folder}\n"
        f"Classify images: {program} -m fdbpl.predict {path} photos --output predictions.csv\n"
        f"Evaluate on labelled images: {program} -m fdbpl.evaluate {path} --data labelled_photos\n"
        f"Export the classifier: {program} -m fdbpl.export {path}"
    )


def _introduction(run: ProtocolRun) -> str:
    """One line about the training and test data of the protocol."""
    what = f"{run.trainer} on {run.dataset}, seed {run.seed}, trains on {run.images_text} of each"
    names = "with all class names"
    if run.protocol.transfers:
        targets = " ".join(run.targets)
        title = {"cross_dataset": "Cross-dataset", "domain_generalization": "Domain generalization"}[run.protocol.name]
        return f"{title}: {what} class, {names}; tests on all test images of {targets}, each with its own class names"
    if run.protocol.name in ("few_shot", "train"):
        title = {"few_shot": "Few-shot", "train": "Training"}[run.protocol.name]
        return f"{title}: {what} class, {names}; tests on all test images of all classes"
    if run.protocol.name == "base2new":
        names = "with the base half of the class names"
        what += " base"
    return (
        f"Base-to-new: {what} class, {names}; tests on all test images of the base classes, and of the new classes "
        "with the other half of the names"
    )


def test_base2new(words: Sequence[str]) -> int:
    """Test a finished training of base2new on the base or new classes (SUB), with the weights of an epoch (LOADEP)."""
    run = ProtocolRun("base2new", words)
    half, epoch = variable("SUB", "new"), variable("LOADEP")
    if half not in ("base", "new"):
        raise UserError(f"SUB must be base or new, found {quoted(half)}")
    if epoch and not re.fullmatch(r"[1-9]\d*", epoch, re.ASCII):
        raise UserError(f"LOADEP must be the number of an epoch, found {quoted(epoch)}. Example: LOADEP=50")
    trained = "" if run.protocol.name == "base2new_all" else "base "
    print(
        f"Base-to-new: {run.trainer} on {run.dataset}, seed {run.seed}, trained on {run.images_text} of each "
        f"{trained}class; tests on all test images of the {half} classes, with the {half} half of the class names",
        flush=True,
    )
    (cell,) = run.cells()
    step = cell.protocol.test_of(half, run.dataset, cell.run, epoch)
    check_epoch(run.output / step.trained, epoch)
    return run.run_step(step, cell.shots, *(["--load-epoch", epoch] if epoch else []))


def generate_regions(words: Sequence[str]) -> int:
    """Generate the region bank of the training images of all classes, or of a half of them (SUB)."""
    run = ProtocolRun("base2new", words)
    classes = variable("SUB", "all")
    if classes not in ("all", "base", "new"):
        raise UserError(f"SUB must be all, base or new, found {quoted(classes)}")
    print(
        f"Region bank: {run.trainer} on {run.dataset}, seed {run.seed}, regions of {run.images_text} of each of "
        f"{classes} classes",
        flush=True,
    )
    run.cells()
    return run.train_py(run.dataset, run.output / "regions", classes, run.shots, "--generate-regions")


def run_attached(command: Sequence[str]) -> int:
    """Run a command that ends with this process: it gets SIGTERM when this one does or is killed. Its exit code.

    The terminal sends Ctrl-C to both; the command prints the message, and this process exits with the command's code.
    """
    process = subprocess.Popen([sys.executable, "-m", "fdbpl.interruption", *command])
    interrupted = 0
    while True:
        try:
            code = process.wait()
            return interrupted or (128 - code if code < 0 else code)
        except Terminated:
            interrupted = 128 + signal.SIGTERM
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            interrupted = 128 + signal.SIGINT
