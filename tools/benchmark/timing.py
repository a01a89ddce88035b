"""Interleaved timing of variants in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Protocol

from tools.benchmark.memory import PeakMemory
from tools.benchmark.synthetic_inputs import synchronise


class Variant(Protocol):
    """An implementation of a training step. Only `step` is timed; `warm_up` may run a part of it.

    Attributes:
        models: backbones of the variant.
    """

    models: list

    def prepare(self) -> None: ...
    def step(self) -> object: ...
    def warm_up(self) -> None: ...


def interleaved(
    variants: Mapping[str, Variant], seconds: float, max_steps: int, device: str, say: Callable = print
) -> dict[str, dict]:
    """Time the variants in turn.

    Each variant makes at least one step and at most `max_steps`. It makes further steps while all variants together
    stay within `seconds`, or the variant itself within an equal share. Freed memory is returned to the system before
    the first step in order to measure the peak. Allocating it again slows that step, which is recorded separately.

    Returns:
        For each variant "first" (seconds of the first step), "later" (`summary` of the seconds of later steps, or
        None), "peak_mib" of a step and "model_mib" of the models.
    """
    results: dict[str, dict] = {}
    later: dict[str, list[float]] = {name: [] for name in variants}
    spent = dict.fromkeys(variants, 0.0)
    for name, variant in variants.items():
        variant.warm_up()
        size = sum(p.numel() * p.element_size() for model in variant.models for p in model.model.parameters()) / 2**20
        results[name] = {"first": None, "later": None, "peak_mib": None, "model_mib": size}
    for number in range(max_steps):
        for name, variant in variants.items():
            if number:
                expected = statistics.median(later[name] or [results[name]["first"]])
                if sum(spent.values()) + expected > seconds and spent[name] + expected > seconds / len(variants):
                    continue
            variant.prepare()
            with nullcontext() if number else PeakMemory(device) as peak:
                synchronise(device)
                begin = time.perf_counter()
                variant.step()
                synchronise(device)
                taken = time.perf_counter() - begin
            if peak:
                results[name] |= {"first": taken, "peak_mib": peak.mib}
            else:
                later[name].append(taken)
            spent[name] += taken
            say(f"  round {number + 1}: {name}: {taken:.3f} s", flush=True)
    for name, values in later.items():
        results[name]["later"] = summary(values) if values else None
    return results


def summary(values: list[float]) -> dict:
    """Return median, quartiles (5 digits) and count of repeated measurements."""
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    rounded = {"median": median, "lower": lower, "upper": upper}
    return {**{key: float(f"{value:.5g}") for key, value in rounded.items()}, "count": len(values)}


def like_for_like(*results: dict) -> list[float] | None:
    """Return comparable seconds of all variants: of later steps if all have some, else of first steps, else None."""
    if all(result["later"] for result in results):
        return [result["later"]["median"] for result in results]
    if all(result["first"] for result in results):
        return [result["first"] for result in results]
    return None
