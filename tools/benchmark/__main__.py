"""Run the benchmark: `python -m tools.benchmark [quick|runs|scale|official|full] [--output DIR]`.

`python -m tools.benchmark document FILE ...` writes docs/PERFORMANCE.md, its charts and docs/performance.json from
the benchmark.json of several profiles.
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
        help="quick: performance targets (25 minutes on 2 cores); runs: whole runs of several methods; scale: large "
        "data sets; official: KDPL's and the release's own code (--kdpl, --fdbpl) next to our rewrites of it; full: "
        "more models and sizes (hours); document: write docs/PERFORMANCE.md. An interrupted profile resumes",
    )  # fmt: skip
    parser.add_argument("files", nargs="*", type=Path, help="benchmark.json of each profile for document")
    parser.add_argument("--output", type=Path, help="folder of the results (default: output/benchmark/<profile>); for "
                        "document the file to write (default: docs/PERFORMANCE.md)")  # fmt: skip
    parser.add_argument("--photos", type=Path, help="folder of JPEG files to use instead of synthetic images")
    for name, repository in (("kdpl", "miccunifi/KDPL"), ("fdbpl", "negan7879/FDBPL")):
        parser.add_argument(f"--{name}", type=Path, help=f"checkout of github.com/{repository}: profiles official and "
                            "quick measure its own code too, which is executed")  # fmt: skip
    parser.add_argument("--hours", type=float, default=24.0, help="start no measurement after this time; the same "
                        "command resumes (default: 24)")  # fmt: skip
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    arguments = parser.parse_args()
    with cli_error_handler():
        if arguments.profile == "document":
            write_page(arguments.files, arguments.output or Path("docs/PERFORMANCE.md"))
        else:
            benchmark(arguments)


def benchmark(arguments: argparse.Namespace) -> None:
    """Measure a profile and print its tables."""
    from fdbpl.devices import choose_device
    from fdbpl.freed_memory import keep_freed_memory
    from tools.benchmark.page import tables
    from tools.benchmark.run import run

    keep_freed_memory()  # as train.py does
    if arguments.files:
        raise UserError(f"Unexpected argument {str(arguments.files[0])!r} after the profile. Remove it.")
    output = (arguments.output or Path("output/benchmark", arguments.profile)).absolute()
    photos = arguments.photos.expanduser().absolute() if arguments.photos else None
    command = " ".join(["python -m tools.benchmark", *map(shlex.quote, sys.argv[1:])])
    given = {"kdpl": arguments.kdpl, "fdbpl": arguments.fdbpl}
    checkouts = {name: folder.expanduser().absolute() for name, folder in given.items() if folder}
    device = choose_device(arguments.device)
    record = run(arguments.profile, output, photos, device, command, arguments.hours, checkouts)
    print(f"\n{tables(record)}\n\nWritten: {output / 'benchmark.json'} and tables.md")
    if record["missing"]:
        print(f"{record['missing']} measurements are missing: the same command resumes")


def write_page(files: list[Path], output: Path) -> None:
    """Write docs/PERFORMANCE.md and its charts from the records of profiles, and their union next to it."""
    from fdbpl.io.atomic import read_json, write_json, write_text
    from tools.benchmark.charts import charts
    from tools.benchmark.page import page
    from tools.benchmark.run import merge

    if not files:
        raise UserError("document needs the path of a benchmark.json. Add it to the command.")
    records = [read_json(file, "the record of a benchmark") for file in files]
    for file, record in zip(files, records, strict=True):
        if not isinstance(record, dict) or "points" not in record:
            raise UserError(f"{file} is not the record of a benchmark. Give the path of a benchmark.json.")
    record = merge(records)
    write_text(output, page(record))
    write_json(output.with_name(f"{output.stem.lower()}.json"), record)
    for name, svg in charts(record).items():
        write_text(output.parent / "images" / name, svg)
    print(f"Written: {output}")


if __name__ == "__main__":
    main()
