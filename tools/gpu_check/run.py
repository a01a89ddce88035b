"""Execution of the stages. The record is written after each of them, so that an interrupted check can be resumed."""

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from fdbpl.errors import UserError
from fdbpl.io.atomic import read_record, write_json, write_text
from fdbpl.runs.environment import describe_environment
from tools.gpu_check import decoding, machine, models
from tools.gpu_check.page import page
from tools.gpu_check.setup import Setup, Sizes, attempt

STAGES: dict[str, Callable[[Setup], list[dict]]] = {
    "environment": machine.environment,
    "tests": machine.tests,
    "nccl": machine.nccl,
    "resize": decoding.resize,
    "dali": decoding.dali,
    "decoding": decoding.decoding,
    "steps": models.steps,
    "graph": models.graph,
    "generation": models.generation,
}


def run(output: Path, names: Iterable[str], sizes: Sizes, command: str) -> dict:
    """Run the named stages, or all that are missing or failed, and return the content of `gpu_check.json`.

    Raises:
        UserError: a stage does not exist, or `output` holds a check of another machine, version or size.
    """
    names, file = list(names), output / "gpu_check.json"
    if unknown := [name for name in names if name not in STAGES]:
        raise UserError(f"There is no stage {unknown[0]!r}. Choose from {', '.join(STAGES)}.")
    record = _record(file, sizes, command)
    setup = Setup(output / "inputs", sizes)
    for name in names or [name for name in STAGES if "rows" not in record["stages"].get(name, {})]:
        print(f"{name} ...", flush=True)
        begin = time.perf_counter()
        result = attempt(partial(_rows, STAGES[name], setup))
        record["stages"][name] = {"seconds": round(time.perf_counter() - begin, 1), **result}
        write_json(file, record)
        write_text(output / "gpu_check.md", page(record, STAGES))
        torch.cuda.empty_cache()
    if all("rows" in record["stages"].get(name, {}) for name in STAGES):
        shutil.rmtree(setup.folder, ignore_errors=True)
    return record


def failures(record: dict) -> list[str]:
    """Return the stages that failed, as a whole or in part."""
    return [
        name
        for name, stage in record["stages"].items()
        if "failed" in stage or any("failed" in row for row in stage["rows"])
    ]


def _rows(stage: Callable[[Setup], list[dict]], setup: Setup) -> dict:
    return {"rows": stage(setup)}


def _record(file: Path, sizes: Sizes, command: str) -> dict:
    """Return the unfinished record in `file`, or a new one."""
    here = {"environment": describe_environment(), "sizes": {**asdict(sizes)}}
    here["sizes"] = {key: list(value) if isinstance(value, tuple) else value for key, value in here["sizes"].items()}
    if not file.exists():
        return {"command": command, "date": time.strftime("%Y-%m-%d"), **here, "stages": {}}
    record = read_record(file, "the record of a GPU check", stages=dict)
    if differing := [key for key, value in here.items() if record.get(key) != value]:
        raise UserError(
            f"{file.parent} holds a check with other {' and '.join(differing)}. Delete it or give another folder."
        )
    return record
