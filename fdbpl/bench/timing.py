"""Arms in turn, round by round, on the same machine in the same process."""

import statistics
import time
from collections.abc import Mapping
from typing import Protocol

from fdbpl.bench.memory import PeakMemory
from fdbpl.bench.world import synchronise


class Arm(Protocol):
    """`prepare` is not timed, `step` is. `warm_up` may be a part of a step. `models`: backbones that it holds."""

    models: list

    def prepare(self) -> None: ...
    def step(self) -> object: ...
    def warm_up(self) -> None: ...


def interleaved(arms: Mapping[str, Arm], seconds: float, most: int, device: str, say=print) -> dict[str, dict]:
    """Every arm at least once, `most` times at most: as long as all together stay within `seconds`, and quick arms,
    which stay within an equal share of it, anyway.

    Returns:
        arm -> {"seconds": [of each step], "peak_mib": of the largest step, "model_mib": of the models it holds}.
    """
    results: dict[str, dict] = {}
    for name, arm in arms.items():
        arm.warm_up()
        size = sum(p.numel() * p.element_size() for model in arm.models for p in model.model.parameters()) / 2**20
        results[name] = {"seconds": [], "peak_mib": None, "model_mib": size}
    for round_number in range(most):
        for name, arm in arms.items():
            taken = results[name]["seconds"]
            if round_number:
                spent, more = sum(sum(result["seconds"]) for result in results.values()), statistics.median(taken)
                if spent + more > seconds and sum(taken) + more > seconds / len(arms):
                    continue
            arm.prepare()
            synchronise(device)
            with PeakMemory(device) as peak:
                begin = time.perf_counter()
                arm.step()
                synchronise(device)
                taken.append(time.perf_counter() - begin)
            results[name]["peak_mib"] = max(
                (m for m in (results[name]["peak_mib"], peak.mib) if m is not None), default=None
            )
            say(f"  round {round_number + 1}: {name}: {taken[-1]:.3f} s", flush=True)
    return results


def spread(seconds: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(seconds) == 1:
        return (seconds[0],) * 3
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return median, lower, upper
