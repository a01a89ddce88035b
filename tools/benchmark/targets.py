"""What the figures are held against: ratios of medians of one run on one machine."""

from collections.abc import Iterator
from dataclasses import dataclass

from fdbpl.pipelines import DECODE_ONCE
from tools.benchmark.profiles import ARMS, Pipeline
from tools.benchmark.timing import spread

CROPS = (50, 500)  # regions of an image, of which banks pay for themselves
IMAGES, EPOCHS = 800, 50  # of the run that they are counted in
PASSES, FALLS_SHORT, UNKNOWN = "pass", "falls short", "not measured"
NO_DALI = "DALI was not installed"


@dataclass(frozen=True)
class Floor:
    """`value` None: not measured here. `lower`: whether less is better."""

    what: str
    bound: float
    value: float | None
    lower: bool = False
    note: str = ""

    @property
    def named(self) -> str:
        return f"{self.what} ({self.note})" if self.note else self.what

    @property
    def verdict(self) -> str:
        if self.value is None:
            return UNKNOWN
        return PASSES if (self.value <= self.bound if self.lower else self.value >= self.bound) else FALLS_SHORT


def median(point: dict, arm: str) -> float | None:
    """Seconds of a step of an arm."""
    taken = point["arms"].get(arm, {}).get("seconds") if "arms" in point else None
    return spread(taken)[0] if taken else None


def steps(record: dict) -> list[dict]:
    return [point for point in record["points"] if point["kind"] == "Step"]


def measured_arms(record: dict) -> list[str]:
    """Letters of the arms that some step has."""
    return [letter for letter in ARMS if any(letter in point["arms"] for point in steps(record))]


def of_kind(record: dict, kind: str) -> dict | None:
    """The one point of its kind, where it was measured."""
    found = [point for point in record["points"] if point["kind"] == kind and "error" not in point]
    return found[0] if found else None


def reference(record: dict, classes: int) -> dict | None:
    """The step with so many classes of the pair, context and batch that floors are about: those of the first point."""
    all_steps = steps(record)
    wanted = all_steps[0]["point"] if all_steps else {}
    keys = ("student", "teacher", "context", "batch")
    for point in all_steps:
        if point["point"]["classes"] == classes and all(point["point"][key] == wanted[key] for key in keys):
            return point
    return None


def floors(record: dict) -> list[Floor]:
    """Every floor, measured or not."""
    return [*_step_floors(record), *_visual(record), *_stages(record)]


def _step_floors(record: dict) -> Iterator[Floor]:
    cpu = record["device"] == "cpu"
    bounds = [(50, "a", "d", 50), (50, "a_star", "d", 40), (50, "b", "d", 12), (500, "a", "d", 8), (500, "b", "d", 8)]
    if not cpu:
        bounds = [(50, "a", "d", 20)]
    for classes, slow, fast, bound in bounds:
        yield Floor(f"({short(slow)})/({fast}), {classes} classes", bound, _ratio(record, classes, slow, fast))
    limit = 1.3 if cpu else 2.0
    yield Floor("(d)/(e), 50 classes", limit, _ratio(record, 50, "d", "e"), lower=True)
    many = reference(record, 1000)
    ours = max((median(many, arm) or 0 for arm in ("c", "d")), default=None) if many else None
    measured = ((c, a) for c in (1000, 500) if (p := reference(record, c)) and (a := median(p, "a")))
    classes, online = next(measured, (0, 0.0))
    note = "" if classes == 1000 else f"(a) with {classes} classes, which is less work than with 1000"
    value = online / ours if ours and online else None
    yield Floor("(a)/(slowest of c, d), 1000 classes", 1.0, value, note=note if value else "")


def _ratio(record: dict, classes: int, over: str, under: str) -> float | None:
    point = reference(record, classes)
    first, second = (median(point, arm) if point else None for arm in (over, under))
    return first / second if first and second else None


def _visual(record: dict) -> Iterator[Floor]:
    point = of_kind(record, "Visual") or {}
    for method in ("VPT", "MaPLe", "PromptSRC"):
        arms = point.get(method)
        value = None
        if arms:
            online, stored = (spread(arms[name]["seconds"])[0] for name in (f"{method}_KDPL", f"FDBPL_{method}"))
            value = online / stored
        yield Floor(f"{method}_KDPL/FDBPL_{method}, batch 4", 4.0, value)


def _stages(record: dict) -> Iterator[Floor]:
    tests = of_kind(record, "Evaluation")
    seconds = list(tests["seconds"].values()) if tests else []
    value = max(seconds[1:]) / seconds[0] if seconds else None
    note = f"{tests['images']} test images" if tests else ""
    yield Floor("test of a second text-only method over the first's", 0.05, value, True, note)
    bank = of_kind(record, "BankBytes")
    sizes = bank["bytes"] if bank else {}
    yield Floor("bytes of a region, topk:10", 64, sizes.get("topk:10"), True)
    beyond = sizes["embedding"] - 2 * bank["embedding_width"] if bank else None
    yield Floor("bytes of a region beyond its embedding's 2 D", 64, beyond, True)
    yield from _lookup(record)
    made = of_kind(record, "Generation")
    note = f"{made['point']['labelling']} labels" if made else ""
    share = made["share"] if made else None
    yield Floor("generation over its teacher alone, regions per second", 0.9, share, note=note)
    yield from _pipeline(record)
    whole = of_kind(record, "WholeRun")
    yield Floor("seconds to train.py's first step", 8.0, spread(whole["starts"])[0] if whole else None, True)
    many = reference(record, 1000)
    needed = [arm["peak_mib"] + arm["model_mib"] for arm in many["arms"].values() if arm["peak_mib"]] if many else []
    value = max(needed) / 1024 if needed else None
    note = "every ViT-B's text tower is the same" if many and many["point"]["student"].startswith("ViT-B") else ""
    yield Floor("GiB of a step with 1000 classes, two prompt spaces", 12.0, value, True, note)


def _lookup(record: dict) -> Iterator[Floor]:
    point = of_kind(record, "Lookup")
    regions = point["point"]["images"] * point["point"]["per_image"] if point else 8_000_000
    batch = point["point"]["batch"] if point else 32
    value = spread(point["milliseconds"])[0] if point else None
    yield Floor(f"milliseconds to look up {batch} of {regions / 1e6:g} million regions", 1.0, value, True)
    grown = point["resident_mib"][1] - point["resident_mib"][0] if point else None
    yield Floor("MiB that resident memory grows by in these lookups", 16.0, grown, True)


def _pipeline(record: dict) -> Iterator[Floor]:
    point = of_kind(record, "Pipeline")
    measured = point["rates"] if point else {str(count): {} for count in Pipeline.regions}
    for count, rates in measured.items():
        rate = {way: spread(values)[0] for way, values in rates.items()}
        ours = rate.get("dali roi" if int(count) < DECODE_ONCE else "dali decode-once")
        note = NO_DALI if rate and not ours else ""
        value = ours / rate["plain DataLoader"] if ours else None
        yield Floor(f"DALI over the plain DataLoader, {count} regions of an image in a row", 1.3, value, note=note)
        if int(count) >= DECODE_ONCE:
            value = ours / rate["torchvision"] if ours else None
            yield Floor(f"DALI over torchvision, both decoding once for {count}", 1.0, value, note=note)


def break_even(record: dict) -> dict | None:
    """After how many runs of 800 images and 50 epochs making the bank has paid for itself, by regions of an image."""
    point = reference(record, 50)
    if not point or not (online := median(point, "a")) or not (ours := median(point, "d")):
        return None
    batch, labelled = point["point"]["batch"], point["labelling"]
    region = labelled["seconds"] / labelled["regions"]
    saved = IMAGES // batch * EPOCHS * (online - ours)
    runs = {crops: IMAGES * crops * region / saved for crops in CROPS}
    return {"seconds_of_a_region": region, "seconds_saved_by_a_run": saved, "runs": runs}


def short(arm: str) -> str:
    """An arm's letter as tables print it."""
    return {"a_half": "a, half", "a_star": "a*"}.get(arm, arm)
