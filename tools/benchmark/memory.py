"""Peak memory of a block of code, and available memory."""

import ctypes
from contextlib import suppress
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
METHOD = {
    "cpu": "growth of the process's resident memory within the first step (peak VmHWM, reset through "
    "/proc/self/clear_refs, less the memory before)",
    "cuda": "peak of torch.cuda.max_memory_allocated within the first step, less the memory allocated before",
}


def available_mib(device: str) -> float:
    """Return the available memory of the device in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0] / 2**20
    with suppress(OSError, ValueError):
        return _kib(Path("/proc/meminfo"), "MemAvailable") / 1024
    return float("inf")


class PeakMemory:
    """Context manager that sets `mib` to the peak memory of its block, or to None on a CPU without Linux."""

    def __init__(self, device: str):
        self.device, self.mib = device, None

    def __enter__(self) -> "PeakMemory":
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
            return self
        self.before = None
        with suppress(OSError, AttributeError, ValueError):
            ctypes.CDLL(None).malloc_trim(0)
            CLEAR.write_text("5")
            self.before = _kib(STATUS, "VmRSS")
        return self

    def __exit__(self, *_) -> None:
        if self.device == "cuda":
            self.mib = (torch.cuda.max_memory_allocated() - self.before) / 2**20
        elif self.before is not None:
            self.mib = (_kib(STATUS, "VmHWM") - self.before) / 1024


def _kib(file: Path, key: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise ValueError(f"{file} has no entry {key}")


def process_peak_mib(device: str) -> float | None:
    """Return the peak memory of this process or its GPU since the last `PeakMemory`; None on a CPU without Linux."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    with suppress(OSError, ValueError):  # unlike ru_maxrss without the memory of the parent process
        return _kib(STATUS, "VmHWM") / 1024
    return None
