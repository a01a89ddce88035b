"""Write tables and a page of all runs below a folder."""

import argparse
from argparse import ArgumentParser
from pathlib import Path

from fdbpl.errors import cli_error_handler
from fdbpl.report.protocols import PROTOCOL_TITLES
from fdbpl.report.report import write_report


def main() -> None:
    arguments = parse_arguments()
    with cli_error_handler():
        folder = arguments.to or arguments.output / "report"
        gallery, reference = not arguments.no_gallery, arguments.reference
        print(write_report(arguments.output, arguments.protocol, folder, gallery, reference=reference))
        print(f"Report: {folder / 'report.html'} (and table.md, table.csv, table.tex)")


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(prog="python -m fdbpl.report", description=__doc__)
    parser.add_argument("output", type=Path, help="OUTPUT of the scripts, or any folder with runs below it")
    parser.add_argument("--protocol", choices=PROTOCOL_TITLES, help="print the tables of this protocol only")
    parser.add_argument("--to", type=Path, help="folder of the report (default: OUTPUT/report)")
    parser.add_argument("--reference", default="", help="a row: add the differences from it with 95 %% intervals")
    parser.add_argument("--no-gallery", action="store_true", help="leave out the gallery of regions, which needs torch")
    return parser.parse_args()


if __name__ == "__main__":
    main()
