"""Launch the jobs of a grid with submitit, on a Slurm cluster or with its local executor."""

import hashlib
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fdbpl.errors import SystemFailure, UserError
from fdbpl.io.atomic import read_record, write_json
from fdbpl.protocols.jobs import (
    JobResult,
    Launcher,
    gpu_count,
    in_process,
    job_environment,
    last_error_line,
    start,
    stop,
)

MINUTES = 240  # default timeout_min of a job; a job that runs out of time is requeued and resumes
ARRAY = 1000  # jobs in one array; Slurm's own default limit is 1001
PATIENCE = 15.0  # seconds to wait for the answer of a job after its end
SIGNAL_DELAY_S = 90  # submitit's default: Slurm signals a job this long before its time limit, and it is requeued
POLL = {"slurm": 10.0, "local": 0.2}  # seconds between two queries of the jobs


def launcher(name: str, slurm: str, output: Path) -> Launcher:
    """The launcher of a name: "" starts children of this process, "slurm" and "local" use submitit.

    Args:
        slurm: settings KEY=VALUE separated by spaces, for submitit's `update_parameters`.
        output: its folder `jobs` holds the logs of the jobs.

    Raises:
        UserError: unknown name or setting, or submitit is not installed.
        SystemFailure: there is no Slurm.
    """
    if not name:
        return in_process
    if name not in POLL:
        raise UserError(f"LAUNCHER is {name!r}, but it must be slurm, local or empty")
    try:
        import submitit
    except ModuleNotFoundError:
        raise UserError(f"LAUNCHER={name} needs the optional package submitit; run: pip install submitit") from None
    folder = output / "jobs"
    try:
        executor = submitit.AutoExecutor(folder, cluster=name, slurm_max_num_timeout=100)
    except RuntimeError:
        raise SystemFailure(
            "LAUNCHER=slurm needs a Slurm cluster, and there is no srun here; run it on the cluster, or use JOBS=N"
        ) from None
    generic = executor._typed_parameters()  # those that every cluster has; the others belong to Slurm
    settings = {"name": "fdbpl", "timeout_min": MINUTES, **slurm_settings(slurm)}
    if name == "slurm":
        check_time_limit(settings)
    try:
        executor.update_parameters(**{key if key in generic else f"slurm_{key}": settings[key] for key in settings})
    except (AssertionError, NameError, TypeError, ValueError) as error:
        raise UserError(
            f"submitit does not accept SLURM={slurm!r} ({' '.join(str(error).split())[:300]}); give "
            "e.g. SLURM='partition=gpu gpus_per_node=1 timeout_min=240'"
        ) from None
    return Submitted(executor, name, folder).run


def slurm_settings(text: str) -> dict[str, Any]:
    """ "partition=gpu gpus_per_node=1" -> {"partition": "gpu", "gpus_per_node": 1}; quotes hold spaces together."""
    try:
        pairs = [word.partition("=") for word in shlex.split(text)]
        values = {key: yaml.safe_load(value) for key, _, value in pairs}
    except (ValueError, yaml.YAMLError):
        pairs = [("", "", "")]
    if not all(key and equals for key, equals, _ in pairs):
        raise UserError(
            f"SLURM is {text!r}, but it must be KEY=VALUE pairs; e.g. SLURM='partition=gpu gpus_per_node=1'"
        )
    return values


def check_time_limit(settings: dict[str, Any]) -> None:
    """Refuse a time limit that is too short for any work: the job would be requeued without end.

    Raises:
        UserError: fewer than 2 minutes, or fewer than Slurm's warning takes (`signal_delay_s`).
    """
    key = "time" if "time" in settings else "timeout_min"  # submitit prefers the former
    minutes, delay = settings[key], settings.get("signal_delay_s", SIGNAL_DELAY_S)
    if not isinstance(minutes, int | float) or not isinstance(delay, int | float):  # e.g. Slurm's "1-12:00:00"
        return
    if minutes < 2 or 60 * minutes <= delay:
        least = max(2, int(delay // 60) + 1)
        raise UserError(
            f"{key}={minutes} in SLURM is too short: Slurm signals a job {delay} s before its time limit, so each job "
            f"would stop at once and be queued again without end. Set {key} to {least} or more"
        )


@dataclass
class Job:
    """A command as submitit runs it. If its time runs out, it is requeued, and the run resumes.

    The result goes to the JSON file `answer`, not through submitit's pickle: a pickle that somebody else has put into
    the folder would be executed. submitit only unpickles this object, which the same call has written.
    """

    command: list[str]
    answer: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self) -> int:
        """Exit code."""
        process = start(self.command, self.environment)
        try:
            output, errors = process.communicate()
        except BaseException:
            stop(process)
            raise
        print(output)
        print(errors, file=sys.stderr)
        line = last_error_line(process.returncode, output, errors)
        write_json(self.answer, {"code": process.returncode, "line": line})
        return process.returncode

    def checkpoint(self) -> Any:
        """The submission that submitit requeues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Submitted:
    """Submit commands and wait for them.

    Slurm's jobs outlive this process: their numbers are recorded, and the same command later waits for them again.
    """

    def __init__(self, executor, cluster: str, folder: Path):
        self.executor = executor
        self.cluster, self.folder = cluster, folder
        self.submitted = folder / "submitted.json"  # command -> Slurm's number of its job

    def run(self, commands: Sequence[list[str]], jobs: int) -> Iterator[JobResult]:
        """A `Launcher`: job arrays of which Slurm runs `jobs` at a time; locally that many are started."""
        if self.cluster == "slurm":
            self.executor.update_parameters(slurm_array_parallelism=jobs)
        running = self._still_there(commands)
        waiting = [number for number in range(len(commands)) if number not in running]
        slots: dict[int, int] = {}  # of the jobs that run on this machine
        try:
            while waiting or running:
                room = jobs - len(running) if self.cluster == "local" else ARRAY * (not running)
                chosen, waiting = waiting[:room], waiting[room:]
                if self.cluster == "local":
                    slots.update(zip(chosen, sorted({*range(jobs)} - {*slots.values()}), strict=False))
                shares = {number: visible_gpus() | job_environment(slot, jobs) for number, slot in slots.items()}
                running.update(self._submit({number: commands[number] for number in chosen}, shares))
                for number in [number for number, job in running.items() if job.done()]:
                    ended = result(number, running.pop(number), self._answer(commands[number]))
                    slots.pop(number, None)
                    self._keep(remove=commands[number])
                    yield ended
                time.sleep(POLL[self.cluster])
        finally:
            self._leave(list(running.values()))

    def _submit(self, commands: dict[int, list[str]], shares: dict[int, dict[str, str]]) -> dict:
        if not commands:
            return {}
        answers = {number: self._answer(command) for number, command in commands.items()}
        for answer in answers.values():
            answer.unlink(missing_ok=True)  # an earlier one's
        with interruptible_children():
            found = self.executor.submit_array(
                [Job(command, answers[number], shares.get(number, {})) for number, command in commands.items()]
            )
        submitted = dict(zip(commands, found, strict=True))
        self._keep(add={shlex.join(commands[number]): job.job_id for number, job in submitted.items()})
        return submitted

    def _answer(self, command: list[str]) -> Path:
        return self.folder.absolute() / f"{hashlib.sha256(shlex.join(command).encode()).hexdigest()[:16]}.json"

    def _still_there(self, commands: Sequence[list[str]]) -> dict:
        """Jobs of an earlier call that Slurm still has."""
        import submitit

        known, keys = self._kept(), list(map(shlex.join, commands))
        if not all(isinstance(number, str) for number in known.values()):
            raise UserError(f"{self.submitted} does not hold numbers of jobs; delete it")
        jobs = {number: submitit.SlurmJob(self.executor.folder, known[key]) for number, key in enumerate(keys)
                if key in known}  # fmt: skip
        found = {number: job for number, job in jobs.items() if job.state != "UNKNOWN" and not job.done()}
        if found:
            print(f"{len(found)} of these jobs were submitted before and are still in Slurm: waiting for them")
        return found

    def _kept(self) -> dict[str, str]:
        if self.cluster == "slurm" and self.submitted.is_file():
            return read_record(self.submitted, "the numbers of submitted jobs", "delete it")
        return {}

    def _keep(self, add: dict[str, str] | None = None, remove: list[str] | None = None) -> None:
        if self.cluster == "slurm":
            known = {**self._kept(), **(add or {})}
            known.pop(shlex.join(remove or []), None)
            write_json(self.submitted, known)

    def _leave(self, running: list) -> None:
        """After an interruption local jobs end, while those of Slurm go on."""
        if self.cluster == "local":
            for job in running:
                job.cancel()
            for job in running:
                job.wait()
        elif running:
            print(
                f"{len(running)} jobs go on in Slurm (scancel ends them): the same command waits for them again and "
                "submits what is still missing",
                file=sys.stderr,
            )


def visible_gpus() -> dict[str, str]:
    """CUDA_VISIBLE_DEVICES with the GPUs of this process: submitit's local executor hides all of them from its jobs."""
    return {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpu_count()))))}


@contextmanager
def interruptible_children() -> Iterator[None]:
    """Let children of this block receive SIGINT, with which submitit ends its local jobs.

    A background process of a shell ignores SIGINT, and its children would inherit that.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def result(number: int, job, answer: Path) -> JobResult:
    """The result of a job; the last line of its log if it died without an answer."""
    patience = time.monotonic() + PATIENCE * (job.state == "COMPLETED")  # network file systems may lag
    while not answer.exists() and time.monotonic() < patience:
        time.sleep(0.2)
    try:
        record = read_record(answer, "how a job ended", code=int, line=str)
    except UserError:
        log = (job.stderr() or "").strip().splitlines()
        state = "" if os.path.exists(job.paths.result_pickle) else f"job {job.job_id} ended as {job.state}: "
        return JobResult(number, 1, f"{state}{log[-1] if log else 'it left no log'}")
    return JobResult(number, record["code"], record["line"])
