"""Kills, faults and bad input: `python -m tools.soak [MINUTES] [--seed N] [--jobs N] [--only WORD]`

Each scenario runs undisturbed once, and is then killed at random moments and started again until it gets through, in
turn with other faults and with files of wrong input; each time what came out is compared with the undisturbed run. Each
gets as much time. Ends with a table; exit code 1 and a sentence where anything was lost, with its folder kept.
"""

import argparse
import os
import random
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import zip_longest
from pathlib import Path
from queue import Empty, SimpleQueue

from fdbpl.errors import SystemFailure, UserError, cli_error_handler
from tools.soak import comparing, inputs, mounts
from tools.soak.comparing import Lost
from tools.soak.disturbing import Count, until_through
from tools.soak.faults import FAULTS, MOUNTED
from tools.soak.scenarios import DRAWING, SCENARIOS, Place, Scenario, mirror

MOST_LOST = 10  # then it is time to mend


class Soak:
    """What has been done so far, and what is still to do."""

    def __init__(self, folder: Path, minutes: float, seed: int, jobs: int, only: str):
        self.folder, self.seconds, self.jobs = folder, 60 * minutes, jobs
        self.chance, self.begin = random.Random(seed), time.monotonic()
        self.spent: Counter = Counter()  # seconds: every scenario gets as many
        self.locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.scenarios = [scenario for scenario in SCENARIOS if only in f"{scenario.part} {scenario.name}"]
        self.counts: dict[str, Count] = defaultdict(Count)
        self.straight: dict[str, tuple[Place, float]] = {}
        self.lost: list[str] = []
        self.inputs = [file for file in inputs.files() if only in str(file)]
        self.chance.shuffle(self.inputs)
        self.number = self.tried = 0
        self.lock = threading.Lock()
        self.server, self.stop_server = mirror(0.02)
        mounted = MOUNTED if mounts.possible() else []
        if not mounted:
            self.note("no full disks and no read-only folders: this system does not let us mount")
        in_turn = [fault for pair in zip_longest(mounted, FAULTS) for fault in pair if fault]
        self.faults = [fault for fault in in_turn if fault[2] in self.scenarios]

    @property
    def passed(self) -> float:
        return time.monotonic() - self.begin

    def note(self, what: str) -> None:
        kills = sum(sum(count.kills.values()) for count in self.counts.values())
        faults = sum(count.faults for count in self.counts.values())
        left = timedelta(seconds=max(0, round(self.seconds - self.passed)))
        counts = f"kills {kills}, faults {faults}, bad inputs {self.tried}, lost {len(self.lost)}"
        print(f"[eta {left}] {counts}: {what}", flush=True)

    def run(self) -> None:
        drawing = self.place("drawing", Path())
        self.pictures = drawing.data = drawing.folder / "data"
        self.undisturbed(DRAWING, drawing)
        side_by_side(self.jobs, [self.work] * self.jobs)
        self.stop_server()

    def undisturbed(self, scenario: Scenario, place: Place | None = None) -> tuple[Place, float]:
        """What an undisturbed run left, and the seconds it took; it is made when it is needed first."""
        scenario = scenario.after or scenario
        with self.locks[scenario.name]:
            if scenario.name not in self.straight:
                place = place or self.place(f"straight {scenario.name}", self.pictures)
                begin = time.monotonic()
                scenario.straight(place)
                self.straight[scenario.name] = place, time.monotonic() - begin
                self.note(f"{scenario.name}: undisturbed in {time.monotonic() - begin:.0f} s")
            return self.straight[scenario.name]

    def work(self) -> None:
        """One thing after another until the time is over: faults, kills and bad input in turn."""
        turn = 0
        while self.passed < self.seconds and len(self.lost) < MOST_LOST:
            turn += 1
            with self.lock:
                name, place, what = self.next(turn)
            begin = time.monotonic()
            self.attempt(name, place, what)
            self.spent[name] += time.monotonic() - begin

    def next(self, turn: int) -> tuple[str, Place, Callable[[], object]]:
        """What is done now: its name, its folder, and it."""
        self.number += 1
        chance = random.Random(self.chance.random())
        if self.inputs and turn % 3 == 0:
            file = self.inputs.pop()
            place = self.place(f"{self.number} {file.stem}", self.pictures)
            return file.stem, place, partial(self.input, file, place)
        fault = self.faults.pop(0) if self.faults and turn % 3 == 1 else None
        scenario = fault[2] if fault else min(self.scenarios, key=lambda scenario: self.spent[scenario.name])
        self.spent[scenario.name] += 1.0  # now: another thread shall not choose the same
        place = self.place(f"{self.number} {scenario.name}", self.pictures)
        if fault:
            return scenario.name, place, partial(self.fault, fault[0], fault[1], scenario, place)
        return scenario.name, place, partial(self.kill, scenario, place, chance)

    def input(self, file: Path, place: Place) -> None:
        number = inputs.tried(file, place.folder)
        with self.lock:
            self.tried += number
        self.note(f"{file.stem}: {number} inputs")

    def kill(self, scenario: Scenario, place: Place, chance: random.Random) -> None:
        straight, seconds = self.undisturbed(scenario)
        if scenario.draws:
            place.data = place.folder / "data"
        disturbed = (scenario, place, straight, seconds, chance, self.counts[scenario.name], self.note)
        until_through(*disturbed, self.begin + self.seconds)

    def fault(self, name: str, make: Callable, scenario: Scenario, place: Place) -> None:
        done = make(scenario, place, self.undisturbed(scenario)[0])
        self.counts[scenario.name].faults += 1
        self.note(f"{scenario.name}: {name}: {done}")

    def attempt(self, name: str, place: Place, what: Callable[[], object]) -> None:
        """Do it; keep the folder where something was lost."""
        try:
            what()
        except Lost as lost:
            self.lost.append(f"{name}: {lost} (kept: {place.folder})")
            self.note(f"LOST {self.lost[-1]}")
        else:
            shutil.rmtree(place.folder)

    def place(self, name: str, data: Path) -> Place:
        return Place(self.folder / name.replace(" ", "_").replace(",", ""), data, f"{self.server.url}/mirror")

    def table(self) -> str:
        """Markdown: what was done to each scenario."""
        head = ["", "kills", *(name.removeprefix("SIG") for name in ("SIGKILL", "SIGTERM", "SIGINT")),
                "said how to go on", "faults", "got through"]  # fmt: skip
        rows, total = [], Count()
        for scenario in SCENARIOS:
            count = self.counts.get(scenario.name)
            if count is not None:
                rows.append(_row(f"{scenario.part}: {scenario.name}", count))
                total.kills.update(count.kills)
                for name in ("asked", "spoke", "faults", "rounds"):
                    setattr(total, name, getattr(total, name) + getattr(count, name))
        lines = [head, ["---"] * len(head), *rows, _row("all", total)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def side_by_side(jobs: int, work: list[Callable[[], object]]) -> None:
    """Do it all, `jobs` pieces at a time, in threads that do not hold up an interruption."""
    waiting, mistakes = SimpleQueue(), []
    for piece in work:
        waiting.put(piece)

    def take() -> None:
        try:
            while not mistakes:
                waiting.get_nowait()()
        except Empty:
            return
        except BaseException as mistake:
            mistakes.append(mistake)

    threads = [threading.Thread(target=take, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if mistakes:
        raise mistakes[0]


def _row(name: str, count: Count) -> list[str]:
    kills = [count.kills[signal] for signal in ("SIGKILL", "SIGTERM", "SIGINT")]
    numbers = [sum(kills), *kills, f"{count.spoke} of {count.asked}", count.faults, count.rounds]
    return [name, *map(str, numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of the moments; default: by chance")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="commands at a time")
    parser.add_argument("--only", default="", help="scenarios with this word in their name")
    arguments = parser.parse_args()
    with cli_error_handler("its folder may be deleted; the same command begins anew"):
        soak(arguments)


def soak(arguments: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fdbpl-soak-"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored behind a shell's `&`, and so in children
    print(f"Soak for {arguments.minutes:g} minutes, seed {arguments.seed}, {arguments.jobs} at a time, in {folder}")
    work = Soak(folder, arguments.minutes, arguments.seed, arguments.jobs, arguments.only)
    if not work.scenarios:
        raise UserError(f"expected scenarios with {arguments.only!r} in their name, found none; see tools/soak")
    work.run()
    print(f"\n{work.table()}\n")
    if work.lost:
        raise SystemFailure("expected nothing to be lost, found " + "; ".join(work.lost))
    comparing.nothing_temporary(folder)
    shutil.rmtree(folder)
    kills = sum(sum(count.kills.values()) for count in work.counts.values())
    faults = sum(count.faults for count in work.counts.values())
    print(f"kills: {kills}, faults: {faults}, bad inputs tried: {work.tried}, lost: 0")


if __name__ == "__main__":
    sys.exit(main())
