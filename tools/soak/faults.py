"""Faults other than kills. Each function compares with an undisturbed run and raises `Lost` if the results differ."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tools.soak import comparing, mounts
from tools.soak.disturbing import Watch, count_files
from tools.soak.killing import Command, Kill
from tools.soak.scenarios import BANK, CALTECH101, FDBPL, GRID, LABELS, RANKS, Place, Scenario

CLOCK = Path(__file__).with_name("clock")
DAY = 86400.0


def concurrent_runs(scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Start two processes in one folder, kill one, and start a third; the run is completed once."""
    first, second = scenario.start(place), scenario.start(place)
    first.wait(lambda: count_files(place.output) > 5)
    first.end(Kill("SIGKILL"))
    third = scenario.start(place)
    second.succeed()
    third.succeed()
    comparing.same(undisturbed.output, place.output)
    comparing.require_no_temporary_files(place.folder)
    return "three processes, one killed"


def concurrent_preparations(scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Prepare the same data set in two processes: the second one waits for the first."""
    first = scenario.start(place)
    first.wait(lambda: count_files(place.output) > 2)
    second = scenario.start(place)
    first.succeed()
    second.succeed()
    comparing.same(undisturbed.output, place.output)
    comparing.require_no_temporary_files(place.folder)
    return "two processes"


def clock_backwards(scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Start a run two days in the future, continue it with a clock that runs backwards, and finish it."""

    def wrong(ahead: float, loses: float) -> dict[str, str]:
        settings = {"FDBPL_FAULT_CLOCK": ahead, "FDBPL_FAULT_CLOCK_LOSES": loses}
        return {"PYTHONPATH": str(CLOCK), **{key: str(value) for key, value in settings.items()}}

    for ahead, loses in ((2 * DAY, 0.0), (-DAY, 0.5)):
        watch = Watch(place.folder)
        command = scenario.start(place, **wrong(ahead, loses))
        if command.wait(more_files(place, 12)):
            command.end(Kill("SIGKILL"))
        watch.check()
        for file in place.output.rglob("*"):
            os.utime(file, (time.time() + ahead,) * 2)
    watch = Watch(place.folder)
    scenario.start(place, **wrong(-2 * DAY, 60.0)).succeed()
    watch.check()
    comparing.same(undisturbed.output, place.output)
    comparing.require_no_temporary_files(place.folder)
    return "a clock two days ahead, then one that runs backwards"


def killed_rank(scenario: Scenario, place: Place, undisturbed: Place) -> str:
    """Kill one process of a distributed run, after which the others end with a message; then kill torchrun."""
    for number in (1, 0):
        watch, command = Watch(place.folder), scenario.start(place)
        if command.wait(more_epochs(place, 2)):
            kill_rank(command, number)
            command.fail(1, "error: ")
        watch.check()
    for kill in (Kill("SIGTERM", "script"), Kill("SIGKILL"), Kill("SIGINT")):
        watch, command = Watch(place.folder), scenario.start(place)
        if command.wait(more_epochs(place, 2)):
            command.end(kill)
        watch.check()
    scenario.start(place).succeed()
    comparing.same(undisturbed.output, place.output)
    comparing.require_no_temporary_files(place.folder)
    return "two dead processes, then torchrun"


def kill_rank(command: Command, number: int) -> None:
    """Send SIGKILL to one of the processes of torchrun."""
    mark = f"RANK={number}".encode()
    for pid in command.members():
        if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGKILL)


def more_epochs(place: Place, number: int) -> Callable[[], bool]:
    """Return a condition that becomes true after `number` more checkpoints."""

    def saved() -> int:
        return len(list(place.output.rglob("model.pth.tar-*")))

    wanted = saved() + number
    return lambda: saved() >= wanted


def more_files(place: Place, number: int) -> Callable[[], bool]:
    """Return a condition that becomes true after more than `number` more files and folders."""
    before = count_files(place.output)
    return lambda: count_files(place.output) > before + number


def mounted(fault: str) -> Callable[[Scenario, Place, Place], str]:
    """Return the fault of this name in tools/soak/mounts.py, run in a mount namespace."""

    def run(scenario: Scenario, place: Place, undisturbed: Place) -> str:
        return mounts.in_namespace(fault, scenario, place, undisturbed)

    return run


Fault = tuple[str, Callable[[Scenario, Place, Place], str], Scenario]
FAULTS: list[Fault] = [  # fast ones first, for short soak tests
    ("two at once", concurrent_preparations, CALTECH101),
    ("clock", clock_backwards, FDBPL),
    ("two at once", concurrent_runs, FDBPL),
    ("a process of several", killed_rank, RANKS),
    ("two at once", concurrent_runs, BANK),
    ("two at once", concurrent_runs, GRID),
    ("clock", clock_backwards, GRID),
]
MOUNTED: list[Fault] = [
    ("full disk", mounted("disk_full"), CALTECH101),
    ("read-only", mounted("read_only"), CALTECH101),
    ("full disk", mounted("disk_full"), FDBPL),
    ("read-only", mounted("read_only"), FDBPL),
    ("full disk", mounted("disk_full"), BANK),
    ("full disk", mounted("disk_full"), LABELS),
    ("full disk", mounted("disk_full"), GRID),
]
