"""Tables of a benchmark, from `benchmark.json` alone."""

from collections.abc import Iterator

from tools.benchmark.profiles import ARMS
from tools.benchmark.targets import EPOCHS, IMAGES, break_even, floors, median, of_kind, short, steps
from tools.benchmark.timing import spread


def table(record: dict) -> str:
    """Floors, steps and stages as markdown."""
    return "\n".join([*_floors(record), "", *_steps(record), *_visual(record), *_stages(record), *_whole_run(record)])


def _floors(record: dict) -> Iterator[str]:
    yield "## Floors"
    yield ""
    yield "| what | floor | measured | |"
    yield "|---|---|---|---|"
    for floor in floors(record):
        value = "-" if floor.value is None else number(floor.value)
        sign = "<=" if floor.lower else ">="
        yield f"| {floor.named} | {sign} {floor.bound:g} | {value} | {floor.verdict} |"


def _steps(record: dict) -> Iterator[str]:
    for point in steps(record):
        what, positions = point["point"], point["positions"]
        yield (
            f"## A step: {what['student']} learns from {what['teacher']}, {what['classes']} classes, context "
            f"{what['context']}, batch {what['batch']}"
        )
        yield ""
        yield (
            f"The longest prompt ends at its {positions['all']}th position; {positions['shared']} are shared by all."
        )
        yield ""
        yield "| arm | seconds a step | over (d) | memory of the step, MiB | models, MiB |"
        yield "|---|---|---|---|---|"
        ours = median(point, "d")
        for letter, result in point["arms"].items():
            middle = spread(result["seconds"])[0]
            part = point["classes_at_once"].get(letter)
            yield (
                f"| ({short(letter)}) {ARMS[letter]} | {_seconds(result['seconds'])} "
                f"| {number(middle / ours) if ours else '-'} | {_mib(result['peak_mib'])}"
                f"{f' ({part} classes at a time)' if part else ''} | {_mib(result['model_mib'])} |"
            )
        if point["classes_at_once"]:
            yield ""
            yield (
                "Where classes pass at a time, the activations of all do not fit this machine's memory: the gradient "
                "of the class features was computed outside of the timed step, which is to that arm's advantage."
            )
        if first := first_step(point, "d"):
            yield ""
            yield f"(d)'s first step took {first:.3f} s. Over it, the others' first: {_over(point, first)}."
        yield ""


def first_step(point: dict, arm: str) -> float | None:
    """Seconds of an arm's first step at full size; older records do not have it."""
    return point["arms"].get(arm, {}).get("first")


def _over(point: dict, first: float) -> str:
    others = {letter: first_step(point, letter) for letter in point["arms"] if letter != "d"}
    return ", ".join(f"({short(letter)}) {number(value / first)}" for letter, value in others.items() if value)


def _seconds(taken: list[float]) -> str:
    middle, lower, upper = spread(taken)
    if len(taken) == 1:
        return f"{middle:.3f}, one step"
    return f"{middle:.3f} ({lower:.3f} to {upper:.3f}), {len(taken)} steps"


def _visual(record: dict) -> Iterator[str]:
    point = of_kind(record, "Visual")
    if not point:
        return
    what = point["point"]
    yield f"## Visual prompts: {what['student']}, {what['teacher']}, {what['classes']} classes, batch {what['batch']}"
    yield ""
    yield "| method | online twin, s | region bank, s | ratio |"
    yield "|---|---|---|---|"
    for method in what["methods"]:
        online, stored = (point[method][name]["seconds"] for name in (f"{method}_KDPL", f"FDBPL_{method}"))
        ratio = spread(online)[0] / spread(stored)[0]
        yield f"| {method} | {_seconds(online)} | {_seconds(stored)} | {number(ratio)} |"
    yield ""


def _stages(record: dict) -> Iterator[str]:
    yield "## Beside the step"
    yield ""
    if tests := of_kind(record, "Evaluation"):
        times = ", then ".join(f"{method} {seconds:.2f} s" for method, seconds in tests["seconds"].items())
        yield f"* Tests on the same {tests['images']} images: {times}."
    if bank := of_kind(record, "BankBytes"):
        sizes = ", ".join(f"{kind} {size:.1f} bytes" for kind, size in bank["bytes"].items())
        yield f"* A region in the bank's files (D = {bank['embedding_width']}, {bank['regions']} regions): {sizes}."
    if looked_up := of_kind(record, "Lookup"):
        what, (before, behind, most) = looked_up["point"], looked_up["resident_mib"]
        middle, lower, upper = spread(looked_up["milliseconds"])
        yield (
            f"* A lookup of {what['batch']} random regions of {what['images'] * what['per_image']:,} (embedding of the "
            f"teacher, feature of the student): {middle:.2f} ms ({lower:.2f} to {upper:.2f}); opening takes "
            f"{looked_up['open_seconds']:.1f} s; resident memory {before:.0f} MiB before "
            f"{len(looked_up['milliseconds'])} lookups, {behind:.0f} MiB behind, {most:.0f} MiB at most. The bank's "
            "files are in the system's cache."
        )
    if made := of_kind(record, "Generation"):
        rates = ", ".join(f"{name} {spread(rate)[0]:.1f} regions/s" for name, rate in made["rates"].items())
        yield f"* A {made['point']['labelling']} labels, in turn: {rates}."
    if pipeline := of_kind(record, "Pipeline"):
        for count, rates in pipeline["rates"].items():
            ways = ", ".join(f"{way} {spread(rate)[0]:.0f}" for way, rate in rates.items())
            yield f"* Regions per second, {count} of an image in a row: {ways}."
    if whole := of_kind(record, "WholeRun"):
        yield f"* {_runs_on_the_demo_world(whole)}"
    yield ""


def _runs_on_the_demo_world(whole: dict) -> str:
    (ours, seconds), (twin, online) = whole["seconds"].items()
    with_bank, first = seconds + whole["generation"], spread(whole["starts"])[0]
    return (
        f"`train.py` on the demo world from call to end, {whole['point']['epochs']} epochs, testing included: {ours} "
        f"{seconds:.1f} s, {twin} {online:.1f} s ({number(online / seconds)} times as long). Making the bank takes "
        f"{whole['generation']:.1f} s once; with it a single run takes {with_bank:.1f} s, the twin "
        f"{number(online / with_bank)} times as long. From the call to the first step: {first:.1f} s."
    )


def _whole_run(record: dict) -> Iterator[str]:
    even = break_even(record)
    if even:
        yield f"## A whole run: {IMAGES} images, {EPOCHS} epochs"
        yield ""
        runs = ", ".join(f"{runs:.1f} runs at {crops} regions an image" for crops, runs in even["runs"].items())
        yield (
            f"Labelling takes {even['seconds_of_a_region']:.3f} s a region, the student's features included; a run "
            f"saves {even['seconds_saved_by_a_run'] / 3600:.1f} h over (a). The bank has paid for itself after {runs}. "
            "Runs of other seeds, contexts and methods read the same bank."
        )


def number(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
