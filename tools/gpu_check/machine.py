"""Stages without models of their own: the environment, the tests marked `gpu`, and nccl."""

import json
import os
import subprocess
import sys

import torch

from fdbpl.errors import SystemFailure
from tools.gpu_check.setup import CHECKOUT, Setup

TESTS_SECONDS, NCCL_SECONDS = 180, 60


def environment(setup: Setup) -> list[dict]:
    """Describe the GPU and what torch can do with it."""
    gpu = torch.cuda.get_device_properties(0)
    found = {
        "GPU": gpu.name,
        "memory, MiB": gpu.total_memory >> 20,
        "compute capability": f"{gpu.major}.{gpu.minor}",
        "CUDA of torch": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "bf16": torch.cuda.is_bf16_supported(),
        "driver": _driver(),
        "processors": os.cpu_count(),
    }
    return [{"property": name, "value": value} for name, value in found.items()]


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def tests(setup: Setup) -> list[dict]:
    """Run the tests that are skipped without a GPU."""
    jobs = min(4, os.cpu_count() or 1)
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-n", str(jobs), "--tb=line", "-rf"]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=TESTS_SECONDS)
    lines = run.stdout.strip().splitlines() or run.stderr.strip().splitlines() or ["pytest printed nothing"]
    if run.returncode:
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        raise SystemFailure("; ".join([lines[-1], *failed[:10]]))
    return [{"result": lines[-1].strip(" =")}]


def nccl(setup: Setup) -> list[dict]:
    """Run the collective operations in a process of their own, which may hang."""
    command = [sys.executable, "-m", "tools.gpu_check.collectives", "nccl"]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=NCCL_SECONDS)
    if run.returncode:
        raise SystemFailure((run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1])
    return [json.loads(run.stdout.splitlines()[-1])]
