"""`python -m fdbpl.runs {config-name,base2new,compare}`: what the shell scripts ask of run folders."""

import argparse
import sys
import time
from pathlib import Path

from fdbpl.atomic import read_json
from fdbpl.errors import MachineError, UserError, one_sentence_errors
from fdbpl.runs.comparison import Comparison, read_rows
from fdbpl.runs.folder import config_name
from fdbpl.runs.grid import run_grid
from fdbpl.runs.metrics import harmonic_mean


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fdbpl.runs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    name = commands.add_parser("config-name", help="folder name of a configuration with its overrides")
    name.add_argument("config")
    name.add_argument("overrides", nargs=argparse.REMAINDER)
    pair = commands.add_parser("base2new", help="one line: base, new and harmonic mean of a finished pair of runs")
    pair.add_argument("base", type=Path)
    pair.add_argument("new", type=Path)
    grid = commands.add_parser("compare", help="run rows (tab-separated on stdin), then one table of them")
    grid.add_argument("--output", type=Path, required=True)
    grid.add_argument("--dataset", required=True)
    grid.add_argument("--seeds", required=True, help="separated by spaces")
    grid.add_argument("--shots", default="16")
    grid.add_argument("--jobs", type=int, default=1, help="runs at a time")
    grid.add_argument("--each", default="", help="KEY=VALUE,VALUE,... to run through and average over, like seeds")
    grid.add_argument("overrides", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    with one_sentence_errors():
        if arguments.command == "config-name":
            refuse_odd(arguments.overrides)
            print(config_name(arguments.config, arguments.overrides))
        elif arguments.command == "base2new":
            print(base2new_line(arguments.base, arguments.new))
        else:
            compare(arguments)


def refuse_odd(overrides: list[str]) -> None:
    if len(overrides) % 2:
        raise UserError(
            f"expected overrides as KEY VALUE pairs, found {len(overrides)} words ({' '.join(overrides)}); "
            "give each key its value"
        )


def compare(arguments: argparse.Namespace) -> None:
    """Run what is missing of a comparison, print its table, then fail if a run did."""
    refuse_odd(arguments.overrides)
    if arguments.jobs < 1:
        raise UserError(f"expected at least one run at a time (JOBS), found {arguments.jobs}; e.g. JOBS=2")
    comparison = Comparison(
        arguments.output, arguments.dataset, arguments.shots, arguments.seeds.split(), read_rows(sys.stdin),
        tuple(arguments.overrides), arguments.each,
    )  # fmt: skip
    banks, begin = comparison.banks(), time.monotonic()
    failed = run_grid(banks, 1)
    if banks:
        print(f"Region banks, once for all of it: {time.monotonic() - begin:.0f} s")
    failed += run_grid(comparison.runs(), arguments.jobs)
    print(comparison.table())
    if failed:
        raise MachineError(
            f"expected every run to end well, found {len(failed)} that did not; mend the cause and start again (what "
            "is finished is not run again):\n  " + "\n  ".join(failed)
        )


def base2new_line(base: Path, new: Path) -> str:
    """`FDBPL demo seed1: base 00.00 new 00.00 H 00.00` from the full-precision metrics of two run folders."""
    metrics = [read_json(folder / "metrics.json", "the metrics of a finished run") for folder in (base, new)]
    accuracies = [run["accuracy"] for run in metrics]
    first = metrics[0]
    return (
        f"{first['trainer']} {first['dataset']} seed{first['seed']}: base {accuracies[0]:.2f} "
        f"new {accuracies[1]:.2f} H {harmonic_mean(*accuracies):.2f}"
    )


if __name__ == "__main__":
    main()
