"""Metrics of runs."""

import resource
import sys


def harmonic_mean(base: float, new: float) -> float:
    """Return H = 2 base new / (base + new) of two accuracies in percent; 0 if both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def peak_memory() -> dict[str, float]:
    """Return the peak memory of this process in MiB: `host`, and `gpu` if CUDA was used."""
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        peak["gpu"] = torch.cuda.max_memory_allocated() / 2**20
    return peak
