"""Performance targets: ratios and sizes of one run of the benchmark on one machine."""

from collections.abc import Iterator
from dataclasses import dataclass

from fdbpl.pipelines import DECODE_ONCE
from tools.benchmark.profiles import VARIANTS, Pipeline

IMAGES, EPOCHS = 800, 50  # of the training runs in the break-even of a bank
REGIONS_PER_IMAGE = (50, 500)


@dataclass(frozen=True)
class Target:
    """A bound and a measured value.

    Attributes:
        value: None if not measured.
        at_most: True for an upper bound, False for a lower bound.
    """

    what: str
    bound: float
    value: float | None
    at_most: bool = False
    note: str = ""

    @property
    def title(self) -> str:
        return f"{self.what} ({self.note})" if self.note else self.what

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        return "met" if (self.value <= self.bound if self.at_most else self.value >= self.bound) else "missed"


def steps(record: dict) -> list[dict]:
    """Return the measured points that time training steps."""
    return [point for point in record["points"] if point["kind"] == "Step"]


def measured_variants(record: dict) -> list[str]:
    """Return the variants of all points."""
    return [name for name in VARIANTS if any(name in point["variants"] for point in steps(record))]


def of_kind(record: dict, kind: str) -> dict | None:
    """Return the only point of a kind, or None if it was not measured."""
    return next((p for p in record["points"] if p["kind"] == kind and "error" not in p), None)


def reference(record: dict, classes: int) -> dict | None:
    """Return the point with `classes` classes and otherwise the settings of the first point."""
    keys = ("student", "teacher", "context", "batch")
    for point in steps(record):
        first = steps(record)[0]["point"]
        if point["point"]["classes"] == classes and all(point["point"][key] == first[key] for key in keys):
            return point
    return None


def ratio(point: dict | None, over: str, under: str) -> float | None:
    """Return the ratio of the median seconds of a step, None if one of them was not measured."""
    if not point or not {over, under} <= set(point["variants"]):
        return None
    return median(point["variants"][over]) / median(point["variants"][under])


def median(result: dict) -> float:
    """Return the median seconds of a variant's timed steps."""
    return result["seconds"]["median"]


def targets(record: dict) -> list[Target]:
    """Return all targets, measured or not."""
    return [*_step_targets(record), *_visual_targets(record), *_other_targets(record)]


def _step_targets(record: dict) -> Iterator[Target]:
    cpu = record["device"] == "cpu"
    bounds = [(50, "a", "d", 60), (50, "a_star", "d", 40), (50, "b", "d", 12), (500, "a", "d", 12), (500, "b", "d", 8)]
    for classes, slow, fast, bound in bounds if cpu else [(50, "a", "d", 20)]:
        value = ratio(reference(record, classes), slow, fast)
        yield Target(f"({label(slow)})/({fast}), {classes} classes", bound, value)
    value = ratio(reference(record, 50), "d", "e")
    yield Target("(d)/(e), 50 classes", 1.15 if cpu else 2.0, value, at_most=True)
    many = reference(record, 1000)
    results = many["variants"].values() if many else ()
    needed = [result["peak_mib"] + result["model_mib"] for result in results if result["peak_mib"]]
    value = max(needed) / 1024 if needed else None
    yield Target("GiB of a step with 1000 classes, two prompt spaces", 12.0, value, at_most=True)


def _visual_targets(record: dict) -> Iterator[Target]:
    point = of_kind(record, "Visual") or {}
    for method in ("VPT", "MaPLe", "PromptSRC"):
        pair = [point[method][name] for name in (f"{method}_KDPL", f"FDBPL_{method}")] if method in point else []
        value = median(pair[0]) / median(pair[1]) if pair else None
        yield Target(f"{method}_KDPL/FDBPL_{method}, batch 4", 4.0, value)


def _other_targets(record: dict) -> Iterator[Target]:
    tests = of_kind(record, "Evaluation")
    seconds = list(tests["seconds"].values()) if tests else []
    value, note = (max(seconds[1:]) / seconds[0], f"{tests['images']} test images") if tests else (None, "")
    yield Target("test of a second text-only method over the first's", 0.05, value, True, note)
    bank = of_kind(record, "BankBytes")
    yield Target("bytes of a region, topk:10", 64, bank["bytes"]["topk:10"] if bank else None, True)
    value = bank["bytes"]["embedding"] - 2 * bank["embedding_width"] if bank else None
    yield Target("bytes of a region beyond the 2 D of its embedding", 64, value, True)
    lookup = of_kind(record, "Lookup")
    value = lookup["milliseconds"]["median"] if lookup else None
    yield Target("milliseconds to look up 32 of 8 million regions", 1.0, value, True)
    value = lookup["resident_mib"][1] - lookup["resident_mib"][0] if lookup else None
    yield Target("growth of resident memory in these lookups, MiB", 16.0, value, True)
    made = of_kind(record, "Generation")
    value, note = (made["share"], f"teacher {made['point']['teacher']}") if made else (None, "")
    yield Target("generation over its teacher alone, regions per second", 0.9, value, note=note)
    pipeline = of_kind(record, "Pipeline")
    for count in map(int, pipeline["rates"]) if pipeline else Pipeline.regions:
        rates = {name: rate["median"] for name, rate in pipeline["rates"][str(count)].items()} if pipeline else {}
        dali = rates.get("dali roi" if count < DECODE_ONCE else "dali decode-once")
        note = "DALI was not installed" if rates and not dali else ""
        value = dali / rates["plain DataLoader"] if dali else None
        yield Target(f"DALI over the plain DataLoader, {count} consecutive regions per image", 1.3, value, note=note)
        if count >= DECODE_ONCE:
            value = dali / rates["torchvision"] if dali else None
            yield Target(f"DALI over torchvision, {count} consecutive regions per image", 1.0, value, note=note)
    whole = of_kind(record, "WholeRun")
    yield Target("seconds to the first step of train.py", 8.0, whole["starts"]["median"] if whole else None, True)


def seconds_of_a_region(record: dict) -> float | None:
    """Return the seconds of labelling a region, including the student's features."""
    point = reference(record, 50)
    return point["labelling"]["seconds"] / point["labelling"]["regions"] if point else None


def break_even(record: dict) -> dict[int, float] | None:
    """Return the number of training runs that save the time of generating a bank, by regions per image."""
    point, region = reference(record, 50), seconds_of_a_region(record)
    if not point or not region or not {"a", "d"} <= set(point["variants"]):
        return None
    saved_in_a_step = median(point["variants"]["a"]) - median(point["variants"]["d"])
    saved = IMAGES // point["point"]["batch"] * EPOCHS * saved_in_a_step
    return {regions: IMAGES * regions * region / saved for regions in REGIONS_PER_IMAGE}


def label(variant: str) -> str:
    """Return a variant's name in tables."""
    return {"a_half": "a, half", "a_star": "a*"}.get(variant, variant)
