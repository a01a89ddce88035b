"""Check run folders for consistency: the record, the done marker, and checksums of the files of a finished run.

python -m fdbpl.runs verify output                    # every run below it
python -m fdbpl.runs verify output/train_all/demo/shots_16/FDBPL/demo/seed1
"""

import argparse
import sys
from argparse import ArgumentParser
from pathlib import Path

from fdbpl.errors import UserError, cli_error_handler
from fdbpl.findings import print_findings
from fdbpl.runs.discovery import RUN_FILES, find_run_folders
from fdbpl.runs.verify import verify_run


def main() -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("verify", help="check run folders; exit code 1 if one is not consistent")
    check.add_argument("places", type=Path, nargs="+", metavar="RUN_OR_OUTPUT", help="run folder, or a folder above")
    arguments = parser.parse_args()
    with cli_error_handler():
        folders = [folder for place in arguments.places for folder in run_folders(place)]
        sys.exit(max(print_findings(verify_run(folder)) for folder in folders))


def run_folders(place: Path) -> list[Path]:
    """Return the run folders of this project at or below a path.

    Raises:
        UserError: there are none, or a folder cannot be read.
    """
    if not place.is_dir():
        raise UserError(f"There is no folder {place}. Check the path")
    refused: list[OSError] = []
    folders = find_run_folders(place, refused.append)
    found = [folder for folder, files in folders if any(name in files for name in RUN_FILES)]
    if refused:
        raise UserError(
            f"Cannot read {refused[0].filename} ({refused[0].strerror}). Check the path and its permissions"
        )
    if not found:
        raise UserError(f"There are no run folders (with a run.json) at or below {place}. Check the path")
    return found


if __name__ == "__main__":
    main()
