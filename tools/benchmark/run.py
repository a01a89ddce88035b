"""Measurement of a profile. Finished points are stored, so that an interrupted benchmark can be resumed."""

import gc
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from fdbpl.backbones.random_init import load_random_init
from fdbpl.errors import UserError
from fdbpl.io.atomic import read_json, write_json, write_text
from fdbpl.runs.environment import describe_environment
from tools.benchmark import demo_runs, measurements, official_code, profiles, scaled_step
from tools.benchmark.memory import METHOD
from tools.benchmark.page import tables
from tools.benchmark.steps import measure_step, measure_visual
from tools.benchmark.synthetic_inputs import SyntheticInputs

MEASURES = {
    profiles.Step: measure_step,
    profiles.Visual: measure_visual,
    profiles.Evaluation: measurements.measure_evaluation,
    profiles.BankBytes: measurements.measure_bank_bytes,
    profiles.Rounding: measurements.measure_rounding,
    profiles.Lookup: measurements.measure_lookup,
    profiles.ImageNetBank: measurements.measure_lookup,
    profiles.Generation: measurements.measure_generation,
    profiles.GenerationSample: measurements.measure_generation,
    profiles.Pipeline: measurements.measure_pipeline,
    profiles.WholeRun: demo_runs.measure_whole_run,
    profiles.Comparison: demo_runs.measure_comparison,
    profiles.ScaledStep: scaled_step.measure_scaled_step,
}


def run(
    profile: str, output: Path, photos: Path | None, device: str, command: str, hours: float,
    checkouts: Mapping[str, Path],
) -> dict:  # fmt: skip
    """Measure the missing points of a profile and write `benchmark.json` and `tables.md` to `output`.

    Args:
        hours: no point is started after this time; the next call resumes.
        checkouts: folders of official code, by the names of `official_code.CODE`.

    Returns:
        The content of `benchmark.json`.

    Raises:
        UserError: the profile or a checkout does not exist, or `output` holds an unfinished benchmark of another
            machine or profile.
    """
    if profile not in profiles.PROFILES:
        raise UserError(f"There is no profile {profile!r}. Choose one of {', '.join(profiles.PROFILES)}.")
    if profile == "official" and not checkouts:
        raise UserError("The profile official needs --kdpl CHECKOUT, --fdbpl CHECKOUT or both. Add them.")
    chosen, points = profiles.PROFILES[profile], output / "points"
    machine = {
        "environment": describe_environment(),
        "device": device,
        "threads": torch.get_num_threads(),
        "photographs": photos is not None,
        "official": official_code.describe(checkouts),
    }
    _check_machine(points / "machine.json", {**machine, "profile": profile})
    inputs = SyntheticInputs(output / "inputs", chosen.images, chosen.classes, photos, device, checkouts)
    begin, models, measured = time.perf_counter(), None, []
    for number, point in enumerate(chosen.points, 1):
        file = points / f"{re.sub(r'[^0-9A-Za-z]+', '-', point.name)}.json"
        passed = time.perf_counter() - begin
        if not file.is_file():
            if passed > 3600 * hours:
                continue
            print(f"[{number}/{len(chosen.points)}] {point.name} (after {passed:.0f} s)", flush=True)
            needed = (getattr(point, "student", None), getattr(point, "teacher", None))
            if needed != (None, None) and needed != models:
                load_random_init.cache_clear()  # keep one pair of models in memory
                models = needed
            gc.collect()  # a DALI pipeline must not be deleted in a forked worker of a DataLoader, which would crash
            result = MEASURES[type(point)](inputs, point)
            about = {"kind": type(point).__name__, "point": {**asdict(point), "name": point.name}}
            write_json(file, {**about, **result})
        measured.append(read_json(file, "a measurement of the benchmark"))
    record = {
        "profile": profile,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        **machine,
        "weights": "random, of the named architectures",
        "memory": METHOD[device],
        "missing": len(chosen.points) - len(measured),
        "points": measured,
    }
    write_json(output / "benchmark.json", record)
    write_text(output / "tables.md", tables(record))
    if not record["missing"]:
        for folder in (points, output / "inputs"):
            shutil.rmtree(folder, ignore_errors=True)
    return record


def merge(records: list[dict]) -> dict:
    """Return the record of several profiles of one machine.

    Raises:
        UserError: the records are of different machines.
    """
    first, *others = records
    for other in others:
        if [other["environment"]["machine"], other["threads"]] != [first["environment"]["machine"], first["threads"]]:
            raise UserError(f"`{first['command']}` and `{other['command']}` ran on different machines. Give one file.")
    return {
        **first,
        "measured": [
            {"command": record["command"], "date": record["date"], "code": record["environment"]["code"]}
            for record in records
        ],
        "missing": sum(record["missing"] for record in records),
        "official": {name: commit for record in records for name, commit in record.get("official", {}).items()},
        "points": [point for record in records for point in record["points"]],
    }


def _check_machine(file: Path, here: dict) -> None:
    """Raise UserError if the unfinished benchmark is of another machine, version or state of the code."""
    if not file.is_file():
        write_json(file, here)
        return
    there = read_json(file, "the record of an unfinished benchmark")
    if differing := [key for key, value in here.items() if there.get(key) != value]:
        raise UserError(
            f"{file.parent} holds an unfinished benchmark with another {', '.join(differing)}. Delete the folder or "
            "give another --output."
        )
