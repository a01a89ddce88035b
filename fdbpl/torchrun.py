"""torchrun without its log and traceback when a process fails, since that process has printed its own message.

python -m fdbpl.torchrun --standalone --nproc_per_node 2 train.py ...
"""

import logging
import os
import sys

from fdbpl.errors import RESUME_HINT, SystemFailure, cli_error_handler

os.environ.setdefault("LOGLEVEL", "CRITICAL")  # of torchrun's loggers that do not follow the logging module


def main() -> None:
    with cli_error_handler():
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.run import parse_args, run

        logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
        try:
            run(parse_args(None))
        except SignalException as received:  # torchrun has passed the signal on
            sys.exit(128 + received.sigval)
        except ChildFailedError as error:
            number, failure = error.get_first_failure()
            if failure.exitcode > 0:
                sys.exit(failure.exitcode)
            raise SystemFailure(
                f"process {number} was killed by signal {-failure.exitcode} (signal 9 may mean that memory ran out). "
                f"Fix the cause; {RESUME_HINT}"
            ) from None


if __name__ == "__main__":
    main()
