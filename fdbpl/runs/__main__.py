"""`python -m fdbpl.runs COMMAND`: what the shell scripts ask of run folders, and `verify`, what they are worth.

python -m fdbpl.runs verify output                    # every run below it
python -m fdbpl.runs verify output/train_all/demo/shots_16/FDBPL/demo/seed1
"""

import argparse
import sys
import time
from pathlib import Path

from fdbpl.arguments import ArgumentParser
from fdbpl.config import pairs
from fdbpl.errors import SystemFailure, UserError, cli_error_handler
from fdbpl.findings import tell
from fdbpl.runs.checks import check_epoch
from fdbpl.runs.comparison import Comparison, Row, banks, read_rows
from fdbpl.runs.discovery import RUN_FILES, find_run_folders
from fdbpl.runs.grid import Ended, run_grid
from fdbpl.runs.grid_record import GridRecord
from fdbpl.runs.launchers import launcher
from fdbpl.runs.plan import plan
from fdbpl.runs.protocols import PROTOCOLS
from fdbpl.runs.results import base2new_line, few_shot_line, transfer_line
from fdbpl.runs.verify import fingerprint_of, verify_run


def main() -> None:
    arguments = parse_arguments()
    with cli_error_handler():
        if "overrides" in arguments:
            arguments.overrides = [word for word in arguments.overrides if word != "--"]
            pairs(arguments.overrides)  # refuses what are no KEY VALUE pairs
        if arguments.command == "steps":
            sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]  # scripts take folder names from it
            print(*steps(arguments), sep="\n")
        elif arguments.command == "base2new":
            print(base2new_line(arguments.base, arguments.new, arguments.learnt))
        elif arguments.command == "few-shot":
            print(few_shot_line(arguments.runs))
        elif arguments.command == "transfer":
            print(transfer_line(arguments.source, arguments.tests, arguments.without))
        elif arguments.command == "verify":
            sys.exit(verify(arguments.places))
        else:
            compare(arguments)


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(
        prog="python -m fdbpl.runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("steps", help="check a protocol's arguments, then print its calls of train.py")
    one.add_argument("--dataset", required=True)
    one.add_argument("--own-name", default="", help="what own images are called in folders and results")
    one.add_argument("--targets", default="", help="data sets to test on, separated by spaces")
    one.add_argument("--trainer", required=True)
    one.add_argument("--config-file", type=Path, required=True)
    one.add_argument("--half", default="", choices=["", "base", "new"], help="only a test of a finished training")
    one.add_argument("--epoch", default="", help="whose weights that test is of (default: the last)")
    pair = commands.add_parser("base2new", help="one line: base, new and harmonic mean of a finished pair of runs")
    pair.add_argument("base", type=Path)
    pair.add_argument("new", type=Path)
    pair.add_argument("--learnt", choices=["base", "all"], default="base", help="the classes of the training")
    points = commands.add_parser("few-shot", help="one line: the accuracies of runs with different shots")
    points.add_argument("runs", type=Path, nargs="+")
    transfer = commands.add_parser("transfer", help="one line: a run's accuracies on other data sets")
    transfer.add_argument("source", type=Path)
    transfer.add_argument("tests", type=Path, nargs="*")
    transfer.add_argument("--without", nargs="+", default=[], help="data sets that could not be tested")
    check = commands.add_parser("verify", help="check run folders for consistency; exit code 1 = problems found")
    check.add_argument("places", type=Path, nargs="+", metavar="RUN_OR_OUTPUT", help="run folder, or a folder above")
    grid = commands.add_parser("compare", help="run rows (tab-separated on stdin), then tables of them")
    grid.add_argument("--jobs", default="1", help="runs at a time")
    grid.add_argument("--launcher", default="", help="slurm, local, or nothing: children of this process")
    grid.add_argument("--slurm", default="", help="settings of Slurm's jobs, KEY=VALUE separated by spaces")
    grid.add_argument("--each", default="", help="KEY=VALUE,VALUE,... to run through and average over, like seeds")
    grid.add_argument("--dry-run", action="store_true", help="only print what would run")
    for command in (one, grid):
        command.add_argument("--protocol", choices=PROTOCOLS, default="base2new")
        command.add_argument("--output", type=Path, required=True)
        command.add_argument("--seeds", required=True, help="separated by spaces")
        command.add_argument("--shots", default="16", help="separated by spaces")
        command.add_argument("overrides", nargs=argparse.REMAINDER)
    return parser.parse_args()


def steps(arguments: argparse.Namespace) -> list[str]:
    """A line for each call of train.py that a protocol's script makes: six words, separated by tabs. They are kind,
    shots, data set, classes, run folder below OUTPUT, and of a test the folder of the training (else -).

    Raises:
        UserError: the protocol cannot do what it is asked for.
    """
    row = Row(
        arguments.dataset, tuple(arguments.targets.split()), arguments.trainer, arguments.trainer,
        arguments.config_file, own=arguments.own_name,
    )  # fmt: skip
    seeds, shots = arguments.seeds.split(), arguments.shots.split()
    comparison = Comparison(arguments.protocol, arguments.output, [row], seeds, shots, tuple(arguments.overrides))
    lines = []
    for cell in comparison.cells:
        found = cell.steps
        if arguments.half:
            found = [cell.protocol.test_of(arguments.half, row.dataset, cell.run, arguments.epoch)]
            check_epoch(arguments.output / found[0].trained, arguments.epoch)
        lines += ["\t".join([step.kind, cell.shots, *step[1:-1], step.trained or "-"]) for step in found]
    return lines


def verify(places: list[Path]) -> int:
    """Print what holds of every run folder, and what does not; 0 = all holds, 1 = not.

    Raises:
        UserError: a place without runs.
    """
    folders = [folder for place in places for folder in run_places(place)]
    finished_last = sorted(folders, key=lambda folder: (folder / "done.json").is_file())
    known = {fingerprint_of(folder): folder for folder in finished_last}  # the finished one of two with one fingerprint
    code = 0
    for folder in folders:
        code |= tell(verify_run(folder, known))
    return code


def run_places(place: Path) -> list[Path]:
    """The run folders of ours at or below a place."""
    refused: list[OSError] = []
    folders = find_run_folders(place, refused.append)
    found = [folder for folder, files in folders if any(name in files for name in RUN_FILES)]
    if refused:
        one = f"{refused[0].filename} ({refused[0].strerror})"
        raise UserError(f"expected run folders that can be read, found {one}; check the path and its permissions")
    if not found:
        raise UserError(f"expected run folders (with a run.json) at or below {place}, found none; check the path")
    return found


def compare(arguments: argparse.Namespace) -> None:
    """Run what is missing of a comparison, print its tables, then fail if a run did.

    Raises:
        UserError: all that failed did so by the user's input.
        SystemFailure: something else failed.
    """
    from fdbpl.report import write_report

    if not arguments.jobs.isdecimal() or int(arguments.jobs) < 1:
        raise UserError(f"expected at least one run at a time (JOBS), found {arguments.jobs!r}; give e.g. JOBS=2")
    jobs = int(arguments.jobs)
    comparison = Comparison(
        arguments.protocol, arguments.output, read_rows(sys.stdin), arguments.seeds.split(), arguments.shots.split(),
        tuple(arguments.overrides), arguments.each,
    )  # fmt: skip
    launch = launcher(arguments.launcher, arguments.slurm, arguments.output)
    if arguments.dry_run:
        print(plan(comparison))
        return
    finished, missing = [], []
    for cell in comparison.cells:
        (finished if cell.finished else missing).append(cell)
    record = GridRecord(arguments.output, arguments.each)
    record.update(finished, "done")
    record.update(missing, "planned")
    if finished:
        print(f"{len(finished)} of {len(comparison.cells)} runs are there already")

    codes: set[int] = set()
    calls, begin = banks(missing), time.monotonic()
    failed = run_grid(calls, 1, launch, lambda ended: codes.add(ended.code))
    if calls:
        print(f"Region banks, once for all of it: {time.monotonic() - begin:.0f} s")

    def note(ended: Ended) -> None:
        codes.add(ended.code)
        status = ("failed", ended.line) if ended.code else ("done", "")
        record.update([missing[ended.number]], *status)

    failed += run_grid([cell.call() for cell in missing], jobs, launch, note)
    print(write_report(arguments.output, arguments.protocol, cells={cell.key for cell in comparison.cells}))
    print(f"\nReport of all runs: {arguments.output / 'report' / 'report.html'} (and table.md, table.csv, table.tex)")
    if failed:
        print(*failed, sep="\n", file=sys.stderr)
        kind = UserError if codes <= {0, UserError.exit_code} else SystemFailure
        raise kind(
            f"expected every run to end well, found {len(failed)} that did not (named above); mend the cause and start "
            "again (what is finished is not run again)"
        )


if __name__ == "__main__":
    main()
