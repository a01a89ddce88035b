"""Arms in turn, round by round, on the same machine in the same process."""

import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Protocol

from tools.benchmark.memory import PeakMemory
from tools.benchmark.synthetic_inputs import synchronise


class Arm(Protocol):
    """`prepare` is not timed, `step` is. `warm_up` may be a part of a step. `models`: backbones that it holds."""

    models: list

    def prepare(self) -> None: ...
    def step(self) -> object: ...
    def warm_up(self) -> None: ...


def interleaved(arms: Mapping[str, Arm], seconds: float, most: int, device: str, say=print) -> dict[str, dict]:
    """Every arm at least once, `most` times at most: as long as all together stay within `seconds`, and quick arms,
    which stay within an equal share of it, anyway.

    The first round tells the memory of a step, for which freed memory goes back to the system; having it handed out
    anew takes time that later steps do not need, so the first step's time counts only where it is the only one.

    Returns:
        arm -> {"seconds": [of each step that counts], "first": of the first, whether it counts or not, "peak_mib",
        "model_mib": of the models it holds}.
    """
    results: dict[str, dict] = {}
    spent = dict.fromkeys(arms, 0.0)
    for name, arm in arms.items():
        arm.warm_up()
        size = sum(p.numel() * p.element_size() for model in arm.models for p in model.model.parameters()) / 2**20
        results[name] = {"seconds": [], "first": None, "peak_mib": None, "model_mib": size}
    for round_number in range(most):
        for name, arm in arms.items():
            taken = results[name]["seconds"]
            if round_number:
                more = statistics.median(taken)
                if sum(spent.values()) + more > seconds and spent[name] + more > seconds / len(arms):
                    continue
            arm.prepare()
            with nullcontext() if round_number else PeakMemory(device) as peak:
                synchronise(device)
                begin = time.perf_counter()
                arm.step()
                synchronise(device)
                passed = time.perf_counter() - begin
            if peak:
                results[name] |= {"first": passed, "peak_mib": peak.mib}
            spent[name] += passed
            results[name]["seconds"] = [passed] if round_number < 2 else [*taken, passed]
            say(f"  round {round_number + 1}: {name}: {passed:.3f} s", flush=True)
    return results


def spread(seconds: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(seconds) == 1:
        return (seconds[0],) * 3
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return median, lower, upper
