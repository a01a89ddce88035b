"""Check one CUDA GPU: `python -m tools.gpu_check OUT [STAGE ...]` writes OUT/gpu_check.json and OUT/gpu_check.md.

Finished stages are kept, so that the same command resumes an interrupted check and repeats the stages that failed.
"""

import shlex
import sys
from argparse import ArgumentParser
from pathlib import Path

import torch

from fdbpl.errors import UserError, cli_error_handler


def main() -> None:
    parser = ArgumentParser(prog="python -m tools.gpu_check", description=__doc__)
    parser.add_argument("output", metavar="OUT", type=Path, help="folder of the results")
    parser.add_argument("stages", metavar="STAGE", nargs="*", help="stages to run, again if they are finished "
                        "(default: all that are missing or failed)")  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="tiny models: a rehearsal whose figures mean nothing")
    arguments = parser.parse_args()
    with cli_error_handler():
        if not torch.cuda.is_available():
            raise UserError("This check needs a CUDA GPU, but torch finds none. Run it on a machine with a GPU.")
        from tools.gpu_check.run import failures, run
        from tools.gpu_check.setup import FULL, TINY

        command = " ".join(["python -m tools.gpu_check", *map(shlex.quote, sys.argv[1:])])
        record = run(arguments.output.absolute(), arguments.stages, TINY if arguments.tiny else FULL, command)
    print(f"Written: {arguments.output / 'gpu_check.json'} and gpu_check.md")
    if failed := failures(record):
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
