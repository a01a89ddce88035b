"""Faults other than kills. Each compares with an undisturbed run and raises `Lost` if the results differ."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tools.soak import comparing, mounts
from tools.soak.disturbing import Watch, written
from tools.soak.killing import Command, Kill
from tools.soak.scenarios import BANK, CALTECH101, FDBPL, GRID, LABELS, RANKS, Place, Scenario

CLOCK = Path(__file__).with_name("clock")
DAY = 86400.0


def two_at_once(scenario: Scenario, place: Place, straight: Place) -> str:
    """Start two processes in one folder, kill one, and start a third. The run is made once."""
    first, second = scenario.start(place), scenario.start(place)
    first.wait(lambda: written(place.output) > 5)
    first.end(Kill("SIGKILL"))
    third = scenario.start(place)
    second.succeed()
    third.succeed()
    comparing.same(straight.output, place.output)
    comparing.nothing_temporary(place.folder)
    return "three processes, one killed"


def two_prepare(scenario: Scenario, place: Place, straight: Place) -> str:
    """Prepare the same data set in two processes: the second one waits for the first."""
    first = scenario.start(place)
    first.wait(lambda: written(place.output) > 2)
    second = scenario.start(place)
    first.succeed()
    second.succeed()
    comparing.same(straight.output, place.output)
    comparing.nothing_temporary(place.folder)
    return "two processes"


def clock_backwards(scenario: Scenario, place: Place, straight: Place) -> str:
    """Start a run two days in the future, continue it with a clock that runs backwards, and finish it."""

    def wrong(ahead: float, loses: float) -> dict[str, str]:
        settings = {"FDBPL_FAULT_CLOCK": ahead, "FDBPL_FAULT_CLOCK_LOSES": loses}
        return {"PYTHONPATH": str(CLOCK), **{key: str(value) for key, value in settings.items()}}

    for ahead, loses in ((2 * DAY, 0.0), (-DAY, 0.5)):
        watch = Watch(place.folder)
        command = scenario.start(place, **wrong(ahead, loses))
        seen = written(place.output)
        if command.wait(lambda seen=seen: written(place.output) > seen + 12):
            command.end(Kill("SIGKILL"))
        watch.check()
        for file in place.output.rglob("*"):
            os.utime(file, (time.time() + ahead,) * 2)
    watch = Watch(place.folder)
    scenario.start(place, **wrong(-2 * DAY, 60.0)).succeed()
    watch.check()
    comparing.same(straight.output, place.output)
    comparing.nothing_temporary(place.folder)
    return "a clock two days ahead, then one that runs backwards"


def a_rank_dies(scenario: Scenario, place: Place, straight: Place) -> str:
    """Kill one process of a distributed run: the others end with a message. Then kill torchrun."""
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
    comparing.same(straight.output, place.output)
    comparing.nothing_temporary(place.folder)
    return "two dead processes, then torchrun"


def kill_rank(command: Command, number: int) -> None:
    """Send SIGKILL to one of the processes of torchrun."""
    mark = f"RANK={number}".encode()
    for pid in command.members():
        if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGKILL)


def more_epochs(place: Place, number: int) -> Callable[[], bool]:
    """A condition that becomes true after `number` more checkpoints."""

    def saved() -> int:
        return len(list(place.output.rglob("model.pth.tar-*")))

    wanted = saved() + number
    return lambda: saved() >= wanted


def mounted(fault: str) -> Callable[[Scenario, Place, Place], str]:
    def run(scenario: Scenario, place: Place, straight: Place) -> str:
        return mounts.in_namespace(fault, scenario, place, straight)

    return run


Fault = tuple[str, Callable[[Scenario, Place, Place], str], Scenario]
FAULTS: list[Fault] = [  # the quick ones first, for short soak tests
    ("two at once", two_prepare, CALTECH101),
    ("clock", clock_backwards, FDBPL),
    ("two at once", two_at_once, FDBPL),
    ("a process of several", a_rank_dies, RANKS),
    ("two at once", two_at_once, BANK),
    ("two at once", two_at_once, GRID),
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
