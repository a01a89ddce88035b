"""The run folder: what was run, with what, and what came out."""

from fdbpl.runs.folder import RunFolder
from fdbpl.runs.metrics import harmonic_mean, peak_memory

__all__ = ["RunFolder", "harmonic_mean", "peak_memory"]
