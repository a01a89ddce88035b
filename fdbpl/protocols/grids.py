"""Grids of runs: the comparison of trainers, the ablation of FDBPL, and the paper's grid."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fdbpl.config import read_yaml
from fdbpl.data.missing import missing_datasets
from fdbpl.errors import SystemFailure, UserError, quoted
from fdbpl.protocols.configs import check_dataset, check_weights, config_file, default_student, is_demo, is_file_name
from fdbpl.protocols.grid import Grid, Row, banks
from fdbpl.protocols.grid_record import GridRecord
from fdbpl.protocols.jobs import JobResult, run_jobs
from fdbpl.protocols.launchers import launcher
from fdbpl.protocols.plan import plan
from fdbpl.protocols.run import (
    OwnImages,
    own_image_places,
    protocol_name,
    shots_of,
    targets_of,
    variable,
)
from fdbpl.report import write_report

ABLATIONS = Path("configs/ablations")
COMPARED = ("base2new", "few_shot", "cross_dataset", "domain_generalization")
TRANSFERRED = "ZeroshotCLIP CoOp CoOp_KDPL FDBPL MaPLe FDBPL_MaPLe PromptSRC FDBPL_PromptSRC"
DEMO_TRAINERS = {  # compared by default on the demo's data sets, whose student is the ViT; base2new: all trainers
    "few_shot": "ZeroshotCLIP CoOp CoOp_KDPL FDBPL MaPLe FDBPL_MaPLe",
    "cross_dataset": TRANSFERRED,
    "domain_generalization": TRANSFERRED,
}
PAPER_DATASETS = (
    "imagenet caltech101 oxford_pets stanford_cars oxford_flowers food101 fgvc_aircraft sun397 dtd eurosat ucf101"
)
PAPER_TRAINERS = (
    "ZeroshotCLIP CoOp CoOp_KDPL FDBPL CoCoOp CoCoOp_KDPL FDBPL_CoCoOp VPT VPT_KDPL FDBPL_VPT "
    "MaPLe MaPLe_KDPL FDBPL_MaPLe PromptSRC PromptSRC_KDPL FDBPL_PromptSRC"
)

Labelled = tuple[str, str, tuple[str, ...]]  # label of a table's row, trainer, overrides


def compare(words: Sequence[str]) -> int:
    """Compare trainers: [PROTOCOL] [DATASETS] [SEEDS] [TRAINERS] [KEY VALUE ...]."""
    protocol, datasets, seeds, named, *overrides = _grid_words(words)
    if datasets and not is_known_dataset(datasets.split()[0] if datasets.split() else ""):
        first = datasets.split()[0] if datasets.split() else datasets
        raise UserError(
            f"{quoted(first)} is neither a protocol ({', '.join(COMPARED)}) nor a data set of configs/datasets"
        )

    def rows(dataset: str) -> list[Labelled]:
        trainers = named.split() or default_trainers(protocol_name(protocol), dataset)
        return [(trainer, trainer, ()) for trainer in trainers]

    return run_grid(protocol, datasets or "demo", seeds or "1 2 3", rows, overrides)


def is_known_dataset(name: str) -> bool:
    try:
        check_dataset(name)
    except UserError:
        return False
    return True


def ablation(words: Sequence[str]) -> int:
    """Compare variants of a trainer: [PROTOCOL] [DATASETS] [SEEDS] [TRAINER] [KEY VALUE ...]; ROWS names their file."""
    protocol, datasets, seeds, trainer, *overrides = _grid_words(words)
    rows = ablation_rows(ablation_file(variable("ROWS", "parts")), trainer or "FDBPL")
    return run_grid(protocol, datasets or "demo", seeds or "1 2 3", lambda dataset: rows, overrides)


def _grid_words(words: Sequence[str]) -> list[str]:
    """Return at least protocol (default base2new), data sets, seeds and trainers; "" where one is not given."""
    named = words[:1] if words and words[0] in COMPARED else ["base2new"]
    rest = words[1:] if words and words[0] in COMPARED else words
    return [*named, *rest, *[""] * (3 - len(rest))]


def ablation_file(name: str) -> Path:
    """Return the path of a file of rows: a name in configs/ablations, or a path that ends in .yaml.

    Raises:
        UserError: configs/ablations has no such file; lists them.
    """
    if name.endswith(".yaml"):
        return Path(name)
    file = ABLATIONS / f"{name}.yaml"
    if not is_file_name(name) or not file.is_file():
        names = ", ".join(sorted(path.stem for path in ABLATIONS.glob("*.yaml")))
        raise UserError(f"ROWS {quoted(name)} is not a file of {ABLATIONS}. Choose from {names}, or give a .yaml file")
    return file


def ablation_rows(file: Path, trainer: str) -> list[Labelled]:
    """Read rows `LABEL: [TRAINER] KEY VALUE ...`; `{trainer}` in a label is `trainer`, the default of the rows.

    Raises:
        UserError: the file is missing, not YAML, or has a value that is no text.
    """
    rows: list[Labelled] = []
    for label, words in read_yaml(file).items():
        try:
            split = shlex.split(words)
        except (AttributeError, ValueError) as error:
            raise UserError(
                f"The row {quoted(label)} of {file} is {quoted(words)}. Write KEY VALUE pairs, if need be after the "
                "name of a trainer"
            ) from error
        own = len(split) % 2 == 1
        rows.append((label.replace("{trainer}", trainer), split[0] if own else trainer, tuple(split[own:])))
    return rows


def paper(words: Sequence[str]) -> int:
    """Run the paper's grid: [PROTOCOLS] [KEY VALUE ...]; TRAINERS, DATASETS and SEEDS narrow it."""
    protocols = (words[0] if words and words[0] else " ".join(COMPARED)).split()
    for protocol in protocols:
        if protocol not in COMPARED:
            raise UserError(f"{quoted(protocol)} is not a protocol. Choose from {', '.join(COMPARED)}")
    student = os.environ["STUDENT"] = variable("STUDENT", "vit_b32")
    wanted = variable("TRAINERS", PAPER_TRAINERS).split()
    trainers = " ".join(name for name in wanted if config_file(name, "base2new", student).is_file())
    if not trainers:
        raise UserError(f"No trainer has configuration files for STUDENT {quoted(student)}. Example: STUDENT=vit_b32")
    status = 0
    for protocol in protocols:
        datasets = variable("DATASETS", PAPER_DATASETS) if protocol in ("base2new", "few_shot") else "imagenet"
        try:
            compare([protocol, datasets, variable("SEEDS", "1 2 3"), trainers, *words[1:]])
        except (UserError, SystemFailure) as error:  # the other protocols go on
            print(f"error: {error}", file=sys.stderr)
            status = status if status == SystemFailure.exit_code else error.exit_code
    return status


def default_trainers(protocol: str, dataset: str) -> list[str]:
    """The trainers that are compared if none are named: those with a configuration file for the student."""
    names = DEMO_TRAINERS.get(protocol, "").split() if is_demo(dataset) else []
    if not names:
        from fdbpl.engine.registry import trainer_names  # imports torch, which plans of named trainers do not need

        names = trainer_names()
    student = variable("STUDENT", default_student(dataset, "demo_vit"))
    return [name for name in names if config_file(name, protocol, student).is_file()]


def run_grid(
    protocol: str, datasets: str, seeds: str, rows_of: Callable[[str], list[Labelled]], overrides: Sequence[str]
) -> int:
    """Run what is missing of a grid, print its tables, then fail if a run failed.

    Args:
        rows_of: data set -> the rows of its table.

    Raises:
        UserError: a setting is wrong, or every failed run failed by the user's input.
        SystemFailure: a run failed for another reason.
    """
    dry_run = variable("DRY_RUN", "0") != "0"
    protocol = protocol_name(protocol)
    if not datasets.split():
        raise UserError("No data sets are given. Example: demo")
    for dataset in datasets.split():
        check_dataset(dataset, "DATASETS:")
        if dataset == "folder" and datasets.split() != ["folder"] and not variable("IMAGES"):
            raise UserError("IMAGES does not name the images for the data set folder. Example: IMAGES=my_photos")
        own_image_places(dataset, ())
        if not dry_run:  # a plan lists what is missing
            check_weights(dataset, list(overrides))
    jobs = variable("JOBS", "2" if all(map(is_demo, datasets.split())) else "1")  # the demo models are small
    if not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"JOBS must be the number of runs at a time, found {quoted(jobs)}. Example: JOBS=2")
    output, each = Path(variable("OUTPUT", "output")), variable("EACH")
    rows = [row for dataset in datasets.split() for row in _rows(protocol, dataset, rows_of(dataset))]
    shots = shots_of(protocol)
    common = tuple(word for word in overrides if word != "--")
    grid = Grid(protocol, output, list(dict.fromkeys(rows)), seeds.split(), shots, common, each)
    launch = launcher(variable("LAUNCHER"), variable("SLURM"), output)
    if dry_run:
        print(plan(grid))
        names = sorted({name for row in rows for name in (row.dataset, *row.targets)})
        missing = missing_datasets(names, Path(variable("DATA", "data")))
        if missing:
            print(missing)
        return 0
    _run(grid, int(jobs), launch)
    return 0


def _rows(protocol: str, dataset: str, labelled: list[Labelled]) -> list[Row]:
    student = variable("STUDENT", default_student(dataset, "demo_vit"))
    targets = targets_of(protocol, dataset)
    if "folder" in targets:
        raise UserError(f"A grid cannot test on own images. Run scripts/{protocol}.sh for each trainer")
    own = OwnImages.read(own_image_places(dataset, ())[0]).name if dataset == "folder" else ""
    return [
        Row(dataset, targets, label, trainer, config_file(trainer, protocol, student), overrides, own)
        for label, trainer, overrides in labelled
    ]


def _run(grid: Grid, jobs: int, launch) -> None:
    """Generate the region banks, run the missing cells, and print the tables."""
    finished, missing = [], []
    for cell in grid.cells:
        (finished if cell.finished else missing).append(cell)
    record = GridRecord(grid.output, grid.each)
    record.update(finished, "done")
    record.update(missing, "planned")
    if finished:
        print(f"{len(finished)} of {len(grid.cells)} runs are already there")

    codes: set[int] = set()
    calls, begin = banks(missing), time.monotonic()
    failed = run_jobs(calls, 1, launch, lambda result: codes.add(result.code))
    if calls:
        print(f"Region banks of all runs: {time.monotonic() - begin:.0f} s")

    def note(result: JobResult) -> None:
        codes.add(result.code)
        status = ("failed", result.line) if result.code else ("done", "")
        record.update([missing[result.number]], *status)

    failed += run_jobs([cell.call() for cell in missing], jobs, launch, note)
    cells = {cell.key for cell in grid.cells}
    print(write_report(grid.output, grid.protocol, cells=cells, reference=variable("REFERENCE")))
    print(f"\nReport of all runs: {grid.output / 'report' / 'report.html'} (and table.md, table.csv, table.tex)")
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        kind = UserError if codes <= {0, UserError.exit_code} else SystemFailure
        raise kind(
            f"{len(failed)} runs failed (listed above). Fix the cause and run the command again: finished runs are "
            "not repeated"
        )
