"""Run protocols and grids. The scripts of scripts/ call this command; environment variables are explained there."""

import argparse
import os
import sys

from fdbpl.arguments import ArgumentParser
from fdbpl.errors import cli_error_handler
from fdbpl.protocols import grids, run
from fdbpl.protocols.configs import RULE

COMMANDS = {
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
    parser.add_argument("command", choices=COMMANDS, help="; ".join(f"{name}: {text}" for name, (_, text) in COMMANDS.items()))
    parser.add_argument("words", nargs=argparse.REMAINDER, help="[DATASET] [SEED] [TRAINER] [KEY VALUE ...]; see the scripts")
    arguments = parser.parse_args()
    if arguments.words[:1] in (["-h"], ["--help"]):
        parser.parse_args(["--help"])
    with cli_error_handler():
        sys.exit(COMMANDS[arguments.command][0](arguments.words))


if __name__ == "__main__":
    main()
