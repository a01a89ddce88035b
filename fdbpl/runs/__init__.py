"""The run folder: configuration, inputs, environment and results of a run."""

from fdbpl.runs.folder import RunFolder
from fdbpl.runs.metrics import harmonic_mean, peak_memory

__all__ = ["RunFolder", "harmonic_mean", "peak_memory"]
