"""Run many commands, several at a time, with a line for each result and an estimate of the remaining time."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta

from tqdm import tqdm


@dataclass(frozen=True)
class JobResult:
    """The end of a command: its index in the list, exit code, and the line with its result or error."""

    number: int
    code: int
    line: str


Launcher = Callable[[Sequence[list[str]], int], Iterator[JobResult]]  # (commands, number at a time)


def start(command: list[str], environment: dict[str, str]) -> subprocess.Popen:
    """Start `command` in a process group of its own, which `stop` ends, and which ends with this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "fdbpl.interruption", *command], env={**os.environ, **environment}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def last_error_line(code: int, output: str, errors: str) -> str:
    """The last line of a command's output; of a command that failed the error message, else the last line of stderr."""
    lines = (errors if code else output).strip().splitlines()
    messages = [line for line in lines if code and line.startswith("error: ")]
    killed = [f"ended by signal {-code}"] if code < 0 else [""]
    return (messages or lines or killed)[-1].removeprefix("error: ")


def stop(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)  # a background process of a shell ignores SIGINT


def job_environment(slot: int, jobs: int) -> dict[str, str]:
    """Environment variables of the job in `slot` of `jobs`: its share of the processors, and a GPU of its own.

    If there are fewer GPUs than jobs, several jobs share one. A run of several processes (NPROC) sees all GPUs.
    Variables that the user has set are left out.
    """
    share = {"OMP_NUM_THREADS": str(max((os.cpu_count() or 1) // jobs, 1))}
    if jobs > 1 and os.environ.get("NPROC", "1") == "1" and (gpus := gpu_count()) > 1:
        share["CUDA_VISIBLE_DEVICES"] = str(slot % gpus)
    return {name: value for name, value in share.items() if name not in os.environ}


def gpu_count() -> int:
    """Number of GPUs that torch can use; counting does not initialise them."""
    import torch

    return torch.cuda.device_count()


def in_process(commands: Sequence[list[str]], jobs: int) -> Iterator[JobResult]:
    """Run the commands as children of this process: the default launcher. Closing it stops what still runs."""
    running: set[subprocess.Popen] = set()
    stopped = threading.Event()
    starting = threading.Lock()
    free_slots = list(range(jobs))

    def run(number: int) -> JobResult:
        with starting:
            if stopped.is_set():
                return JobResult(number, -1, "")
            slot = free_slots.pop(0)
            process = start(commands[number], job_environment(slot, jobs))
            running.add(process)
        output, errors = process.communicate()
        running.discard(process)
        free_slots.append(slot)
        return JobResult(number, process.returncode, last_error_line(process.returncode, output, errors))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(run, number) for number in range(len(commands))]):
                yield done.result()
        finally:
            with starting:
                stopped.set()
            for process in list(running):
                stop(process)


def run_jobs(
    commands: Sequence[list[str]],
    jobs: int,
    launch: Launcher = in_process,
    note: Callable[[JobResult], None] = lambda ended: None,
) -> list[str]:
    """Run `commands`, `jobs` at a time.

    The last line that a command prints is its result. A terminal shows a progress bar; a file or a pipe gets plain
    lines with the same estimate. An interruption is passed on to the launcher.

    Args:
        note: called as each ends.

    Returns:
        "command: last line of its errors" of each that failed.
    """
    failed, begin = [], time.monotonic()
    bar = tqdm(total=len(commands), unit="run", leave=False, disable=None if sys.stdout.isatty() else True)
    with bar, closing(launch(commands, jobs)) as endings:
        for count, ended in enumerate(endings, start=1):
            note(ended)
            line = f"{'failed: ' * bool(ended.code)}{ended.line}"
            if ended.code:
                failed.append(f"{shlex.join(commands[ended.number])}: {ended.line}")
            if bar.disable:
                left = (time.monotonic() - begin) / count * (len(commands) - count)
                print(f"[{count}/{len(commands)}] {line} (eta {timedelta(seconds=round(left))})", flush=True)
            else:
                bar.write(line)
                bar.update()
    return failed
