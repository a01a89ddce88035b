"""Training steps of FDBPL in processes of their own, whose peak memory holds nothing else.

`measure_scaled_step` starts `python -m tools.benchmark.scaled_step SETTINGS`, under torchrun for several processes.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from fdbpl import distributed
from fdbpl.errors import SystemFailure, cli_error_handler
from fdbpl.freed_memory import keep_freed_memory
from tools.benchmark.memory import PeakMemory, process_peak_mib
from tools.benchmark.profiles import ScaledStep
from tools.benchmark.steps import NEGATIVE, POSITIVE, TrainerStep
from tools.benchmark.synthetic_inputs import SyntheticInputs, synchronise
from tools.benchmark.timing import summary

CHECKOUT = Path(__file__).resolve().parents[2]
TEACHER = "tiny teacher"  # it takes no part in a step; its class features are in the bank


def measure_scaled_step(inputs: SyntheticInputs, point: ScaledStep) -> dict:
    """Measure steps after a warm-up, the start until the first step, and the memory of the first process."""
    if inputs.device == "cuda" and point.processes > torch.cuda.device_count():
        return {"error": f"{point.processes} processes need as many GPUs"}
    settings = {
        "folder": str(inputs.folder), "photos": None if inputs.root == inputs.folder else str(inputs.root),
        "device": inputs.device, "images": len(inputs.paths), "point": asdict(point),
    }  # fmt: skip
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={point.processes}"]
    command = [sys.executable, *(torchrun if point.processes > 1 else ()), "-m", "tools.benchmark.scaled_step"]
    begin = time.time()
    ran = subprocess.run([*command, json.dumps(settings)], cwd=CHECKOUT, capture_output=True, text=True)
    if ran.returncode:
        raise SystemFailure(f"The measurement of {point.name} failed: {ran.stderr.strip()[-300:]}")
    found = json.loads(ran.stdout.splitlines()[-1])
    return {"start_seconds": found.pop("started") - begin, **found}


def main() -> None:
    settings = json.loads(sys.argv[1])
    with cli_error_handler():
        keep_freed_memory()  # as train.py does
        distributed.start(settings["device"] == "cuda")
        found = _measure(settings, ScaledStep(**settings["point"]))
        print(json.dumps(found))
        distributed.stop()


def _measure(settings: dict, point: ScaledStep) -> dict:
    photos, device = settings["photos"], settings["device"]
    inputs = SyntheticInputs(
        Path(settings["folder"]), settings["images"], point.classes, photos and Path(photos), device
    )
    words, no_words = (" ".join([start] * (point.context // 4)) for start in (POSITIVE, NEGATIVE))
    cfg = inputs.config(
        "FDBPL", point.student, TEACHER, point.classes, point.batch, MODEL__TEXT_CHUNK=point.chunk,
        TRAINER__FDBPL__CTX_INIT=words, TRAINER__FDBPL__NEGATIVE_CTX_INIT=no_words,
    )  # fmt: skip
    step, started = TrainerStep(inputs.build_trainer(cfg)), time.time()
    with PeakMemory(device) as peak:
        warm_up = _timed(step, device)
    seconds = [_timed(step, device) for _ in range(point.rounds)]  # the same number in all processes
    return {
        "started": started, "warm_up": warm_up, "seconds": summary(seconds), "peak_mib": peak.mib,
        "process_mib": process_peak_mib(device), "threads": torch.get_num_threads(),
    }  # fmt: skip


def _timed(step: TrainerStep, device: str) -> float:
    synchronise(device)
    begin = time.perf_counter()
    step.step()
    synchronise(device)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
