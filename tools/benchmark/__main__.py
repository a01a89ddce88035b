"""`python -m tools.benchmark [quick|full] [--output DIR]` runs the benchmark.

`document FILE` writes docs/PERFORMANCE.md.
"""

import argparse
import shlex
import sys
from pathlib import Path

from fdbpl.arguments import ArgumentParser
from fdbpl.errors import UserError, cli_error_handler


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.benchmark", description=__doc__)
    parser.add_argument(
        "profile", nargs="?", default="quick",
        help="quick: the floors (10 minutes on 2 cores); full: sweeps (hours, resumable); or document",
    )  # fmt: skip
    parser.add_argument("file", nargs="?", type=Path, help="document: a benchmark.json")
    parser.add_argument("--output", type=Path, help="folder of the results (default: output/benchmark/<profile>); "
                        "document: the file to write (default: docs/PERFORMANCE.md)")  # fmt: skip
    parser.add_argument("--photos", type=Path, help="folder of JPEGs to take in place of drawn pictures")
    parser.add_argument("--hours", type=float, default=24.0, help="begin no measurement after so many; the same "
                        "command continues (default: 24)")  # fmt: skip
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda where there is one)")
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.profile == "document":
            write_document(arguments.file, arguments.output or Path("docs/PERFORMANCE.md"))
        else:
            benchmark(arguments)


def benchmark(arguments: argparse.Namespace) -> None:
    """Measure a profile, print its table."""
    from fdbpl.devices import choose_device
    from fdbpl.freed_memory import keep_freed_memory
    from tools.benchmark.run import run
    from tools.benchmark.tables import table

    keep_freed_memory()  # as train.py does; for all arms

    if arguments.file:
        raise UserError(f"expected a profile alone, found {str(arguments.file)!r} behind it; leave it out")
    output = (arguments.output or Path("output/benchmark", arguments.profile)).absolute()
    photos = arguments.photos.expanduser().absolute() if arguments.photos else None
    command = " ".join(["python -m tools.benchmark", *map(shlex.quote, sys.argv[1:])])
    record = run(arguments.profile, output, photos, choose_device(arguments.device), command, arguments.hours)
    print(f"\n{table(record)}\n\nWritten: {output / 'benchmark.json'} and table.md")
    if record["missing"]:
        print(f"{record['missing']} measurements are missing: the same command continues")


def write_document(file: Path | None, output: Path) -> None:
    from fdbpl.io.atomic import read_json, write_text
    from tools.benchmark.document import document

    if file is None:
        raise UserError("expected a benchmark.json behind document, found nothing; give its path")
    record = read_json(file, "the record of a benchmark")
    if not isinstance(record, dict) or "points" not in record:
        raise UserError(f"expected the record of a benchmark in {file}, found something else; give a benchmark.json")
    write_text(output, document(record))
    print(f"Written: {output}")


if __name__ == "__main__":
    main()
