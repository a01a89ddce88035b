"""Repeated kills of a scenario until it finishes, and comparison with an undisturbed run."""

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tools.soak import comparing
from tools.soak.killing import CommandResult, Kill
from tools.soak.scenarios import Place, Scenario

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
MAX_KILLS = 12  # consecutive kills before a scenario may finish
START = 2.0  # seconds that a command needs before it does anything


@dataclass
class Count:
    """Disturbances of a scenario.

    Attributes:
        kills: by signal.
        hints_expected, hints_printed: interruptions that should print how to resume, and those that did.
        rounds: number of finished repetitions.
    """

    kills: Counter = field(default_factory=Counter)
    hints_expected: int = 0
    hints_printed: int = 0
    rounds: int = 0
    faults: int = 0

    def add(self, kill: Kill, ended: CommandResult) -> None:
        self.kills[kill.signal] += ended.killed
        self.hints_expected += ended.hints_expected and ended.killed
        self.hints_printed += ended.hints_printed and ended.hints_expected and ended.killed


class Watch:
    """The finished files of a folder before an attempt; `check` requires that the attempt left them unchanged."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.before = comparing.finished(folder) if folder.exists() else {}
        self.logs = comparing.logs(folder) if folder.exists() else {}
        self.epochs = {run: comparing.finished_epochs(folder / run) for run in self.logs}

    def check(self) -> None:
        comparing.require_unchanged(self.folder, self.before)
        comparing.require_epochs_kept(self.folder, self.epochs, self.logs)


def kill_until_finished(
    scenario: Scenario, place: Place, undisturbed: Place, seconds: float, chance: random.Random, count: Count,
    note: Callable[[str], None], deadline: float = float("inf"),
) -> None:  # fmt: skip
    """Kill `scenario` at random moments, at most MAX_KILLS times and until the `deadline`; then finish it and compare.

    Args:
        seconds: duration of the undisturbed run.

    Raises:
        Lost: something was lost, repeated, left over or changed.
    """
    scenario.prepare(place, undisturbed.output)
    for attempt in range(MAX_KILLS + 1):
        watch, command = Watch(place.folder), scenario.start(place)
        wait = moment(chance, place.folder, seconds)
        if attempt < MAX_KILLS and time.monotonic() < deadline and command.wait(wait):
            kill = Kill(chance.choice(SIGNALS), "group")
            if kill.signal != "SIGINT" and chance.random() < 0.3:
                kill = Kill(kill.signal, "script")  # its children must end as well
            ended = command.end(kill)
            count.add(kill, ended)
            note(f"{scenario.name}: {kill}")
        else:
            ended = command.succeed()
        watch.check()
        if not ended.killed:
            break
    comparing.same(undisturbed.output, place.output, drawn=scenario.draws)
    if scenario.draws:
        comparing.same(undisturbed.data, place.data)
    comparing.require_no_temporary_files(place.folder)
    count.rounds += 1
    note(f"{scenario.name}: finished, nothing lost")


def moment(chance: random.Random, folder: Path, seconds: float) -> Callable[[], bool]:
    """Return a condition that becomes true at a random time, or a random delay after a file was written."""
    begin = time.monotonic()
    if chance.random() < 0.4:
        at = begin + chance.uniform(0.0, 1.0) * seconds
        return lambda: time.monotonic() >= at
    wanted, delay = chance.randint(1, 4), chance.choice([0.0, chance.uniform(0.0, 0.3)])
    state = {"seen": count_files(folder), "changes": 0, "at": float("inf")}

    def is_due() -> bool:
        now = count_files(folder)
        if now != state["seen"]:
            state["seen"], state["changes"] = now, state["changes"] + 1
            if state["changes"] == wanted:
                state["at"] = time.monotonic() + delay
        return time.monotonic() >= state["at"]

    return is_due


def count_files(folder: Path) -> int:
    """Return the number of files and folders below `folder`."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))
