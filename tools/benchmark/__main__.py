"""Run the benchmark: `python -m tools.benchmark [quick|full] [--output DIR]`.

`python -m tools.benchmark document FILE` writes docs/PERFORMANCE.md from a benchmark.json.
"""

import argparse
import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path

from fdbpl.errors import UserError, cli_error_handler


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.benchmark", description=__doc__)
    parser.add_argument(
        "profile", nargs="?", default="quick",
        help="quick: all performance targets (25 minutes on 2 cores); full: more models and sizes (hours; resumes "
        "after an interruption); document: write docs/PERFORMANCE.md",
    )  # fmt: skip
    parser.add_argument("file", nargs="?", type=Path, help="the benchmark.json for document")
    parser.add_argument("--output", type=Path, help="folder of the results (default: output/benchmark/<profile>); for "
                        "document the file to write (default: docs/PERFORMANCE.md)")  # fmt: skip
    parser.add_argument("--photos", type=Path, help="folder of JPEG files to use instead of synthetic images")
    parser.add_argument("--hours", type=float, default=24.0, help="start no measurement after this time; the same "
                        "command resumes (default: 24)")  # fmt: skip
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.profile == "document":
            write_page(arguments.file, arguments.output or Path("docs/PERFORMANCE.md"))
        else:
            benchmark(arguments)


def benchmark(arguments: argparse.Namespace) -> None:
    """Measure a profile and print its tables."""
    from fdbpl.devices import choose_device
    from fdbpl.freed_memory import keep_freed_memory
    from tools.benchmark.page import tables
    from tools.benchmark.run import run

    keep_freed_memory()  # as train.py does
    if arguments.file:
        raise UserError(f"Unexpected argument {str(arguments.file)!r} after the profile. Remove it.")
    output = (arguments.output or Path("output/benchmark", arguments.profile)).absolute()
    photos = arguments.photos.expanduser().absolute() if arguments.photos else None
    command = " ".join(["python -m tools.benchmark", *map(shlex.quote, sys.argv[1:])])
    record = run(arguments.profile, output, photos, choose_device(arguments.device), command, arguments.hours)
    print(f"\n{tables(record)}\n\nWritten: {output / 'benchmark.json'} and tables.md")
    if record["missing"]:
        print(f"{record['missing']} measurements are missing: the same command resumes")


def write_page(file: Path | None, output: Path) -> None:
    """Write docs/PERFORMANCE.md from the record of a benchmark."""
    from fdbpl.io.atomic import read_json, write_text
    from tools.benchmark.page import page

    if file is None:
        raise UserError("document needs the path of a benchmark.json. Add it to the command.")
    record = read_json(file, "the record of a benchmark")
    if not isinstance(record, dict) or "points" not in record:
        raise UserError(f"{file} is not the record of a benchmark. Give the path of a benchmark.json.")
    write_text(output, page(record))
    print(f"Written: {output}")


if __name__ == "__main__":
    main()
