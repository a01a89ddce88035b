"""Get data sets into CoOp's layout, or check those that are there.

    python -m fdbpl.data.prepare                                 # every data set: what is there is left alone
    python -m fdbpl.data.prepare caltech101 dtd --root data
    python -m fdbpl.data.prepare --check --root data             # what is there, what is missing, what is broken
    python -m fdbpl.data.prepare --list

FDBPL_MIRROR=http://host/folder is asked first, for <folder>/<data set>/<file>.
"""

import argparse
import os
import sys
from argparse import ArgumentParser
from pathlib import Path

from fdbpl.errors import cli_error_handler


def main() -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.data.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="*", metavar="DATASET", help="as in configs/datasets; default: all")
    root = Path(os.environ.get("DATA") or "data")
    parser.add_argument("--root", type=Path, default=root, help="folder of the data sets; default: DATA, or data")
    parser.add_argument("--check", action="store_true", help="fetch nothing; read the data sets and decode every image")
    parser.add_argument("--keep-archives", action="store_true", help="leave them in <data set>/downloads")
    parser.add_argument("--list", action="store_true", help="what is fetched from where")
    arguments = parser.parse_intermixed_args()  # options stand between names, too
    with cli_error_handler():
        from fdbpl.data.prepare.commands import run  # takes a while, in which Ctrl-C has its sentence already

        sys.exit(run(arguments))


if __name__ == "__main__":
    main()
