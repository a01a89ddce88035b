"""Run protocols and grids. The scripts of scripts/ call this command; environment variables are explained there."""

import argparse
import sys
from argparse import ArgumentParser

from fdbpl.errors import cli_error_handler
from fdbpl.protocols import grids, run
from fdbpl.protocols.configs import RULE

COMMANDS = {
    "train": (lambda words: run.run_protocol("train", words), "train a classifier of all classes and test it"),
    "base2new": (lambda words: run.run_protocol("base2new", words), "train on base classes, test on base and new ones"),
    "base2new_test": (run.test_base2new, "test a training of base2new again"),
    "few_shot": (lambda words: run.run_protocol("few_shot", words), "train on all classes with 1 to 16 shots"),
    "cross_dataset": (lambda words: run.run_protocol("cross_dataset", words), "train on one data set, test on others"),
    "domain_generalization": (
        lambda words: run.run_protocol("domain_generalization", words), "test on shifted images of the same classes"
    ),
    "generate_regions": (run.generate_regions, "only generate the region bank of a training"),
    "compare": (grids.compare, "run a grid of trainers and print its tables"),
    "ablation": (grids.ablation, "run FDBPL with parts left out"),
    "paper": (grids.paper, "run the grid of the paper"),
}  # fmt: skip


def main() -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.protocols", description=__doc__, epilog=RULE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text, epilog=RULE, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_argument("words", nargs="*", metavar="ARGUMENT", help="as scripts/*.sh describe them")
    # flags and values such as -1 are for the command to judge
    arguments, rest = parser.parse_args(sys.argv[1:2]), sys.argv[2:]
    if rest[:1] in (["-h"], ["--help"]):
        parser.parse_args(sys.argv[1:3])
    with cli_error_handler():
        sys.exit(COMMANDS[arguments.command][0](rest))


if __name__ == "__main__":
    main()
