"""Many runs, some at a time: a line for each that ends, an estimate for the rest, the failed ones by name."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from datetime import timedelta


def run_grid(commands: Sequence[list[str]], jobs: int) -> list[str]:
    """Run `commands`, `jobs` at a time, each with its share of the processors.

    The last line that a command prints stands for its result. An interruption (Ctrl-C, SIGTERM) is passed on to what
    is running.

    Returns:
        "command: last line of its errors" of each that failed.
    """
    environment = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // jobs, 1)), **os.environ}
    running: set[subprocess.Popen] = set()
    stopped = threading.Event()

    def run(command: list[str]) -> tuple[int, str]:
        if stopped.is_set():
            return -1, ""
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        running.add(process)
        output, errors = process.communicate()
        running.discard(process)
        lines = (errors if process.returncode else output).strip().splitlines()
        return process.returncode, lines[-1] if lines else ""

    failed, begin = [], time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ThreadPoolExecutor(jobs) as pool:
            pending = {pool.submit(run, command): command for command in commands}
            try:
                for number, done in enumerate(as_completed(pending), start=1):
                    code, line = done.result()
                    if code:
                        failed.append(f"{' '.join(pending[done])}: {line}")
                    left = (time.monotonic() - begin) / number * (len(commands) - number)
                    eta = timedelta(seconds=round(left))
                    print(f"[{number}/{len(commands)}] {'failed: ' * bool(code)}{line} (eta {eta})", flush=True)
            except KeyboardInterrupt:
                stopped.set()
                for process in list(running):
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGTERM)  # SIGINT is ignored behind a shell's `&`
                raise
    finally:
        signal.signal(signal.SIGTERM, before)
    return failed
