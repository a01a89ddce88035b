"""A profile, point by point: each is kept when it is measured, so that an interrupted run goes on."""

import gc
import re
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import torch

from fdbpl.backbones.random_init import load_random_init
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json, write_json, write_text
from fdbpl.runs.environment import describe_environment
from tools.benchmark import banks, profiles, stages, whole_runs
from tools.benchmark.memory import HOW
from tools.benchmark.steps import measure_step, measure_visual
from tools.benchmark.synthetic_inputs import World
from tools.benchmark.tables import table

MEASURES = {
    profiles.Step: measure_step,
    profiles.Visual: measure_visual,
    profiles.Evaluation: stages.measure_evaluation,
    profiles.BankBytes: banks.measure_bank_bytes,
    profiles.Rounding: banks.measure_rounding,
    profiles.Lookup: banks.measure_lookup,
    profiles.Generation: banks.measure_teacher_share,
    profiles.Pipeline: stages.measure_pipeline,
    profiles.WholeRun: whole_runs.measure_whole_run,
}


def run(profile: str, output: Path, photos: Path | None, device: str, command: str, hours: float) -> dict:
    """Measure what is missing of a profile; writes `benchmark.json` and `table.md` in `output` and returns the former.

    Args:
        hours: no point is begun after so many; what is there is written, and the next call goes on.

    Raises:
        UserError: no such profile, or `output` holds the begun benchmark of another machine or profile.
    """
    if profile not in profiles.PROFILES:
        raise UserError(f"expected a profile of {', '.join(profiles.PROFILES)}, found {profile!r}; choose one")
    chosen, points = profiles.PROFILES[profile], output / "points"
    machine = {
        "environment": describe_environment(),
        "device": device,
        "threads": torch.get_num_threads(),
        "photographs": photos is not None,
    }
    _same_machine(output / "points" / "machine.json", {**machine, "profile": profile})
    world = World(output / "world", chosen.pictures, chosen.classes, photos, device)
    begin, models, measured = time.perf_counter(), None, []
    for number, point in enumerate(chosen.points, 1):
        file = points / f"{re.sub(r'[^0-9A-Za-z]+', '-', point.name)}.json"
        if not file.is_file() and time.perf_counter() - begin > 3600 * hours:
            continue
        if file.is_file():
            print(f"[{number}/{len(chosen.points)}] {point.name}: measured before", flush=True)
        else:
            print(
                f"[{number}/{len(chosen.points)}] {point.name} ({time.perf_counter() - begin:.0f} s so far)", flush=True
            )
            needed = (getattr(point, "student", None), getattr(point, "teacher", None))
            if needed != (None, None) and needed != models:
                load_random_init.cache_clear()  # a pair of towers at a time
                gc.collect()
                models = needed
            start = time.perf_counter()
            result = MEASURES[type(point)](world, point)
            kind = type(point).__name__
            taken = time.perf_counter() - start
            write_json(file, {"kind": kind, "point": {**asdict(point), "name": point.name}, "took": taken, **result})
        measured.append(read_json(file, "a measured point of the benchmark"))
    record = {
        "profile": profile,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        **machine,
        "weights": "random, of the named architectures",
        "memory": HOW[device],
        "missing": len(chosen.points) - len(measured),
        "points": measured,
    }
    write_json(output / "benchmark.json", record)
    write_text(output / "table.md", table(record))
    for made in () if record["missing"] else (points, output / "world"):
        shutil.rmtree(made, ignore_errors=True)  # the next call measures anew
    return record


def _same_machine(file: Path, here: dict) -> None:
    """Points of two machines, versions or states of the code do not belong in one table."""
    if file.is_file():
        there = read_json(file, "the record of a begun benchmark")
        differing = [key for key, value in here.items() if there.get(key) != value]
        if differing:
            raise UserError(
                f"expected a benchmark begun with the same {', '.join(differing)} in {file.parent}, found another; "
                f"delete {file.parent} or give another --output"
            )
    else:
        write_json(file, here)
