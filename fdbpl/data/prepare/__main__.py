"""Install data sets in CoOp's layout, or check the installed ones.

    python -m fdbpl.data.prepare                                 # all data sets; existing files are left alone
    python -m fdbpl.data.prepare caltech101 dtd --root data
    python -m fdbpl.data.prepare --check --root data             # report missing and broken files
    python -m fdbpl.data.prepare --list                          # sources and sizes

FDBPL_MIRROR=http://host/folder is tried first, as <folder>/<data set>/<file>.
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
    parser.add_argument("--check", action="store_true", help="download nothing; read the data sets, decode every image")
    parser.add_argument("--keep-archives", action="store_true", help="leave the archives in <data set>/downloads")
    parser.add_argument("--list", action="store_true", help="print the sources and sizes")
    arguments = parser.parse_intermixed_args()  # options may stand between names
    with cli_error_handler():
        from fdbpl.data.prepare.commands import run  # imports torch: slow, so inside of the handler of Ctrl-C

        sys.exit(run(arguments))


if __name__ == "__main__":
    main()
