"""torchrun that ends as our other commands do: `python -m fdbpl.torchrun --standalone --nproc_per_node 2 train.py ...`

Its own end is a page of its log and a traceback. Here a process that fails speaks for itself, in one sentence.
"""

import logging
import os
import sys

from fdbpl.errors import SystemFailure, cli_error_handler

os.environ.setdefault("LOGLEVEL", "CRITICAL")  # of those of its loggers that do not follow logging's


def main() -> None:
    with cli_error_handler():
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.run import parse_args, run

        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        try:
            run(parse_args(None))
        except SignalException as interruption:  # has been passed on
            sys.exit(128 + interruption.sigval)
        except ChildFailedError as error:
            number, failure = error.get_first_failure()
            if failure.exitcode > 0:
                sys.exit(failure.exitcode)
            raise SystemFailure(
                f"expected every process to go on, found process {number} killed by signal {-failure.exitcode} (9 may "
                "be a lack of memory); mend the cause, and the same command continues where this one stopped"
            ) from None


if __name__ == "__main__":
    main()
