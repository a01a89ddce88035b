"""Interleaved timing of variants in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tools.benchmark.memory import PeakMemory
from tools.benchmark.synthetic_inputs import synchronise

ROUND_S, MAX_REPEATS = 2.0, 10  # seconds and steps of a fast variant in a round


class Variant(Protocol):
    """An implementation of a training step. Only `step` is timed.

    Attributes:
        models: backbones of the variant.
    """

    models: list

    def prepare(self) -> None: ...
    def step(self) -> object: ...


def interleaved(variants: Mapping[str, Variant], rounds: int, device: str, say: Callable = print) -> dict[str, dict]:
    """Time the variants in turn, all in the same way.

    Each variant makes one whole step that is not timed: it allocates the memory and measures its peak. Then all
    variants take their turns in `rounds` rounds; in a round a variant repeats its step for about `ROUND_S` seconds, at
    least once.

    Returns:
        For each variant "seconds" (`summary` of the timed steps), "warm_up" (seconds of the first step), "peak_mib" of
        a step and "model_mib" of the models.
    """
    results: dict[str, dict] = {}
    timed: dict[str, list[float]] = {name: [] for name in variants}
    for name, variant in variants.items():
        size = sum(p.numel() * p.element_size() for model in variant.models for p in model.model.parameters()) / 2**20
        with PeakMemory(device) as peak:
            taken = _timed(variant, device)
        results[name] = {"warm_up": taken, "peak_mib": peak.mib, "model_mib": size}
        say(f"  warm-up: {name}: {taken:.3f} s", flush=True)
    for number in range(1, rounds + 1):
        for name, variant in variants.items():
            expected = min(timed[name] or [results[name]["warm_up"]])
            steps = [_timed(variant, device) for _ in range(max(1, min(MAX_REPEATS, int(ROUND_S / expected))))]
            timed[name] += steps
            say(f"  round {number}: {name}: {statistics.median(steps):.3f} s", flush=True)
    return {name: {"seconds": summary(timed[name]), **result} for name, result in results.items()}


def _timed(variant: Variant, device: str) -> float:
    variant.prepare()
    synchronise(device)
    begin = time.perf_counter()
    variant.step()
    synchronise(device)
    return time.perf_counter() - begin


def summary(values: list[float]) -> dict:
    """Return median, quartiles (5 digits) and count of repeated measurements."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    rounded = {"median": median, "lower": lower, "upper": upper}
    return {**{key: float(f"{value:.5g}") for key, value in rounded.items()}, "count": len(values)}
