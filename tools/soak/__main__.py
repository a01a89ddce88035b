"""Soak test: `python -m tools.soak [MINUTES] [--seed N] [--jobs N] [--only WORD]`

Each scenario runs once without disturbance. It is then killed at random moments and restarted until it finishes,
in turn with other faults and bad input; each result is compared with the undisturbed run. All scenarios get equal time.
Prints a table; exit code 1 and a message if anything was lost, in which case the folder is kept.
"""

import argparse
import os
import random
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import zip_longest
from pathlib import Path
from queue import Empty, SimpleQueue

from fdbpl.errors import SystemFailure, UserError, cli_error_handler
from tools.soak import comparing, inputs, mounts
from tools.soak.comparing import Lost
from tools.soak.disturbing import Count, kill_until_finished
from tools.soak.faults import FAULTS, MOUNTED
from tools.soak.scenarios import DRAWING, SCENARIOS, Place, Scenario, mirror

MAX_LOST = 10  # stop after so many failures


class Soak:
    """State of a soak test."""

    def __init__(self, folder: Path, minutes: float, seed: int, jobs: int, only: str):
        self.folder, self.seconds, self.jobs = folder, 60 * minutes, jobs
        self.chance, self.begin = random.Random(seed), time.monotonic()
        self.spent: dict[str, float] = defaultdict(float)  # seconds of each scenario; the one with the fewest is next
        self.locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.scenarios = [scenario for scenario in SCENARIOS if only in f"{scenario.part} {scenario.name}"]
        self.counts: dict[str, Count] = defaultdict(Count)
        self.references: dict[str, tuple[Place, float]] = {}
        self.lost: list[str] = []
        self.inputs = [file for file in inputs.files() if only in str(file)]
        self.chance.shuffle(self.inputs)
        self.number = self.tried = 0
        self.lock = threading.Lock()
        self.server, self.stop_server = mirror(0.02)
        mounted = MOUNTED if mounts.possible() else []
        if not mounted:
            self.note("full disks and read-only folders are skipped: this system does not permit mounts")
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
        self.images = drawing.data = drawing.folder / "data"
        self.undisturbed(DRAWING, drawing)
        run_in_threads(self.jobs, [self.work] * self.jobs)
        self.stop_server()

    def undisturbed(self, scenario: Scenario, place: Place | None = None) -> tuple[Place, float]:
        """Return the place and the seconds of the undisturbed run of a scenario, which runs on first use."""
        scenario = scenario.after or scenario
        with self.locks[scenario.name]:
            if scenario.name not in self.references:
                place = place or self.place(f"undisturbed {scenario.name}", self.images)
                begin = time.monotonic()
                scenario.run_undisturbed(place)
                self.references[scenario.name] = place, time.monotonic() - begin
                self.note(f"{scenario.name}: undisturbed in {time.monotonic() - begin:.0f} s")
            return self.references[scenario.name]

    def work(self) -> None:
        """Apply faults, kills and bad input in turn until the time is over."""
        turn = 0
        while self.passed < self.seconds and len(self.lost) < MAX_LOST:
            turn += 1
            with self.lock:
                name, place, what = self.next(turn)
            begin = time.monotonic()
            self.attempt(name, place, what)
            self.spent[name] += time.monotonic() - begin

    def next(self, turn: int) -> tuple[str, Place, Callable[[], object]]:
        """Return the next disturbance: name, folder and function."""
        self.number += 1
        chance = random.Random(self.chance.random())
        if self.inputs and turn % 3 == 0:
            file = self.inputs.pop()
            place = self.place(f"{self.number} {file.stem}", self.images)
            return file.stem, place, partial(self.input, file, place)
        fault = self.faults.pop(0) if self.faults and turn % 3 == 1 else None
        scenario = fault[2] if fault else min(self.scenarios, key=lambda scenario: self.spent[scenario.name])
        self.spent[scenario.name] += 1.0  # so that another thread chooses another scenario
        place = self.place(f"{self.number} {scenario.name}", self.images)
        if fault:
            return scenario.name, place, partial(self.fault, fault[0], fault[1], scenario, place)
        return scenario.name, place, partial(self.kill, scenario, place, chance)

    def input(self, file: Path, place: Place) -> None:
        number = inputs.run_test_file(file, place.folder)
        with self.lock:
            self.tried += number
        self.note(f"{file.stem}: {number} inputs")

    def kill(self, scenario: Scenario, place: Place, chance: random.Random) -> None:
        undisturbed, seconds = self.undisturbed(scenario)
        if scenario.draws:
            place.data = place.folder / "data"
        disturbed = (scenario, place, undisturbed, seconds, chance, self.counts[scenario.name], self.note)
        kill_until_finished(*disturbed, self.begin + self.seconds)

    def fault(self, name: str, make: Callable, scenario: Scenario, place: Place) -> None:
        done = make(scenario, place, self.undisturbed(scenario)[0])
        self.counts[scenario.name].faults += 1
        self.note(f"{scenario.name}: {name}: {done}")

    def attempt(self, name: str, place: Place, what: Callable[[], object]) -> None:
        """Run a disturbance; keep the folder if something was lost."""
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
        """Return the kills, faults and rounds of each scenario as a Markdown table."""
        head = ["", "kills", *(name.removeprefix("SIG") for name in ("SIGKILL", "SIGTERM", "SIGINT")),
                "printed how to resume", "faults", "finished"]  # fmt: skip
        rows, total = [], Count()
        for scenario in SCENARIOS:
            count = self.counts.get(scenario.name)
            if count is not None:
                rows.append(_row(f"{scenario.part}: {scenario.name}", count))
                total.kills.update(count.kills)
                for name in ("hints_expected", "hints_printed", "faults", "rounds"):
                    setattr(total, name, getattr(total, name) + getattr(count, name))
        lines = [head, ["---"] * len(head), *rows, _row("all", total)]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run_in_threads(jobs: int, work: list[Callable[[], object]]) -> None:
    """Run functions in `jobs` daemon threads, which do not delay an interruption."""
    waiting, errors = SimpleQueue(), []
    for piece in work:
        waiting.put(piece)

    def take() -> None:
        try:
            while not errors:
                waiting.get_nowait()()
        except Empty:
            return
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=take, daemon=True) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _row(name: str, count: Count) -> list[str]:
    kills = [count.kills[signal] for signal in ("SIGKILL", "SIGTERM", "SIGINT")]
    numbers = [sum(kills), *kills, f"{count.hints_printed} of {count.hints_expected}", count.faults, count.rounds]
    return [name, *map(str, numbers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minutes", nargs="?", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="seed (default: random)")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="number of concurrent commands")
    parser.add_argument("--only", default="", help="only scenarios with this word in their name")
    arguments = parser.parse_args()
    with cli_error_handler("its folder may be deleted; the same command starts again"):
        soak(arguments)


def soak(arguments: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="fdbpl-soak-"))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # commands started with `&` ignore it
    print(f"Soak for {arguments.minutes:g} minutes, seed {arguments.seed}, {arguments.jobs} at a time, in {folder}")
    work = Soak(folder, arguments.minutes, arguments.seed, arguments.jobs, arguments.only)
    if not work.scenarios:
        raise UserError(f"No scenario has {arguments.only!r} in its name. The names are in tools/soak/scenarios.py.")
    work.run()
    print(f"\n{work.table()}\n")
    if work.lost:
        raise SystemFailure("The soak test failed: " + "; ".join(work.lost))
    comparing.require_no_temporary_files(folder)
    shutil.rmtree(folder)
    kills = sum(sum(count.kills.values()) for count in work.counts.values())
    faults = sum(count.faults for count in work.counts.values())
    print(f"kills: {kills}, faults: {faults}, bad inputs tried: {work.tried}, lost: 0")


if __name__ == "__main__":
    main()
