"""`python -m fdbpl.runs {config-name,base2new,table}`: what the shell scripts ask of run folders."""

import argparse
from pathlib import Path

from fdbpl.atomic import read_json
from fdbpl.errors import UserError, one_sentence_errors
from fdbpl.runs.folder import config_name
from fdbpl.runs.metrics import harmonic_mean
from fdbpl.runs.table import base2new_pairs, markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fdbpl.runs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    name = commands.add_parser("config-name", help="folder name of a configuration with its overrides")
    name.add_argument("config")
    name.add_argument("overrides", nargs=argparse.REMAINDER)
    pair = commands.add_parser("base2new", help="one line: base, new and harmonic mean of a finished pair of runs")
    pair.add_argument("base", type=Path)
    pair.add_argument("new", type=Path)
    table = commands.add_parser("table", help="Markdown table of all finished base-to-new pairs below an output folder")
    table.add_argument("output", type=Path)
    table.add_argument("--pool", default="", help="configuration key whose values share a row")
    arguments = parser.parse_args()
    with one_sentence_errors():
        if arguments.command == "config-name":
            if len(arguments.overrides) % 2:
                raise UserError(
                    f"expected overrides as KEY VALUE pairs, found {len(arguments.overrides)} words "
                    f"({' '.join(arguments.overrides)}); give each key its value"
                )
            print(config_name(arguments.config, arguments.overrides))
        elif arguments.command == "base2new":
            print(base2new_line(arguments.base, arguments.new))
        else:
            print(markdown_table(base2new_pairs(arguments.output), arguments.pool))


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
