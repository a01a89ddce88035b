"""Inspect a data set without training: format, classes, splits, prompts, and what may spoil a result.

    python -m fdbpl.data my_photos                # class folders, CSV, split JSON, lists, Hugging Face's layouts
    python -m fdbpl.data my_photos/labels.csv
    python -m fdbpl.data hf://OWNER/NAME
    python -m fdbpl.data data/caltech-101 --json

Exit codes: 0; 1 with warnings; 2 if the data cannot be used.
"""

import argparse
import json
import sys

from fdbpl.errors import UserError, cli_error_handler, one_line


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m fdbpl.data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", help="folder, CSV, JSON, list or Parquet file, or hf://OWNER/NAME")
    parser.add_argument("--shots", type=int, default=16, help="training images per class of the run; default: 16")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    with cli_error_handler():
        from third_party import use_dassl

        use_dassl()
        from fdbpl.data.custom.inspection import inspect

        try:
            inspection = inspect(arguments.data, arguments.shots)
        except UserError as error:
            if not arguments.json:
                raise
            print(json.dumps({"place": arguments.data, "error": str(error), "exit_code": error.exit_code}, indent=2))
            sys.exit(error.exit_code)
        if arguments.json:
            print(json.dumps(inspection.to_json(), indent=2, ensure_ascii=False))
        else:
            print("\n".join(one_line(line) for line in inspection.to_text().split("\n")))
        sys.exit(inspection.exit_code)


if __name__ == "__main__":
    main()
