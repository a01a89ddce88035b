"""Tables of a benchmark, and docs/PERFORMANCE.md, from `benchmark.json` alone."""

from collections.abc import Iterator

from fdbpl.bench.floors import EPOCHS, IMAGES, break_even, floors, median, of_kind, short, steps
from fdbpl.bench.limit import CONTENT
from fdbpl.bench.profiles import ARMS
from fdbpl.bench.timing import spread


def table(record: dict) -> str:
    """Floors, steps and stages as markdown."""
    return "\n".join([*_floors(record), "", *_steps(record), *_visual(record), *_stages(record), *_whole_run(record)])


def document(record: dict) -> str:
    """docs/PERFORMANCE.md."""
    return "\n".join(
        [
            "# How fast it is",
            "",
            "Written by `python -m fdbpl.bench document benchmark.json`; all figures come from that file.",
            "",
            *_machine(record),
            "",
            *_arms(record),
            "",
            table(record),
            "",
            *_exactness(record),
            "",
            *_losses(record),
            "",
            *_not_measured(record),
            "",
        ]
    )


def _machine(record: dict) -> Iterator[str]:
    environment = record["environment"]
    machine, packages = environment["machine"], environment["packages"]
    there = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    yield f"* Command: `{record['command']}`, {record['date']}."
    yield (
        f"* Machine: {machine['processor']}, {record['threads']} threads of torch, "
        f"{machine['gpu'] or 'no GPU'}, {machine['system']}."
    )
    commit = (environment["code"]["commit"] or "unknown")[:12]
    yield f"* Python {environment['python']}, {there}; code {commit}{' (modified)' * environment['code']['modified']}."
    yield (
        "* Towers have the published architectures and random weights: time does not depend on their values. "
        f"{'Photographs' if record['photographs'] else 'Pictures of 500 x 375 pixels, drawn by the benchmark'}."
    )
    yield (
        "* All arms in one process on the same pictures, boxes and class names, in turn, round by round; warm-up left "
        "out; medians, quartiles in brackets. Every step ends with the backward pass and the optimiser's step (but the "
        "limit's)."
    )
    yield f"* Memory: {record['memory']}. Models: weights that the arm holds."


def _arms(record: dict) -> Iterator[str]:
    yield "## What is compared"
    yield ""
    for letter, text in ARMS.items():
        yield f"* ({short(letter)}) {text}."
    yield ""
    yield (
        "(a*), (c) and (d) are this project's trainers as `train.py` runs them; (a) and (b) are written for the "
        "benchmark after the official recipes, with CLIP's own text tower, and equal (a*) and (c) in loss and gradient "
        "to 1e-5 (`tests/bench`; (b) but for the cascaded difference, which the release adds up to zero). All that "
        "read pixels cut them from JPEGs in the step, by the same pipeline."
    )
    yield f"(e) contains {CONTENT}."


def _floors(record: dict) -> Iterator[str]:
    yield "## Floors"
    yield ""
    yield "| what | floor | measured | |"
    yield "|---|---|---|---|"
    for floor in floors(record):
        value = "-" if floor.value is None else _number(floor.value)
        sign = "<=" if floor.lower else ">="
        note = f" ({floor.note})" if floor.note else ""
        yield f"| {floor.what}{note} | {sign} {floor.bound:g} | {value} | {floor.verdict} |"


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
        yield "| arm | seconds a step | steps | over (d) | memory of the step, MiB | models, MiB |"
        yield "|---|---|---|---|---|---|"
        ours = median(point, "d")
        for letter, result in point["arms"].items():
            middle, lower, upper = spread(result["seconds"])
            part = point["classes_at_once"].get(letter)
            yield (
                f"| ({short(letter)}) {ARMS[letter]} | {middle:.3f} ({lower:.3f} to {upper:.3f}) "
                f"| {len(result['seconds'])} | {_number(middle / ours) if ours else '-'} | {_mib(result['peak_mib'])}"
                f"{f' ({part} classes at a time)' if part else ''} | {_mib(result['model_mib'])} |"
            )
        if point["classes_at_once"]:
            yield ""
            yield (
                "Where classes pass at a time, the activations of all do not fit this machine's memory: the gradient "
                "of the class features was computed outside of the timed step, which is to that arm's advantage."
            )
        yield ""


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
        online, stored = (spread(point[method][name]["seconds"]) for name in (f"{method}_KDPL", f"FDBPL_{method}"))
        yield f"| {method} | {online[0]:.3f} | {stored[0]:.3f} | {_number(online[0] / stored[0])} |"
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
        f"{seconds:.1f} s, {twin} {online:.1f} s ({_number(online / seconds)} times as long). Making the bank takes "
        f"{whole['generation']:.1f} s once; with it a single run takes {with_bank:.1f} s, the twin "
        f"{_number(online / with_bank)} times as long. From the call to the first step: {first:.1f} s."
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


def _exactness(record: dict) -> Iterator[str]:
    yield "## What is exact, what approximate"
    yield ""
    yield (
        "The text shortcuts and looked-up labels are exact up to rounding (docs/METHOD.md): losses and gradients of "
        "(a) and (a*) agree to 1e-5. Approximate is float16 in the bank, of embeddings and image features: 5e-4 of an "
        "entry."
    )
    if found := of_kind(record, "Rounding"):
        yield (
            f"With trained weights (the demo's teacher, {found['images']} pictures, {found['classes']} classes) it "
            f"changes a teacher logit by at most {found['logits']:.1e} (of up to {found['largest_logit']:.1f}), a "
            f"probability by {found['probability']:.1e}, the region weight w by {found['w']:.1e}; the first class "
            f"stays the same for {100 * found['same_first_class']:.0f} % of them. Its effect on final accuracy "
            "was not measured with real CLIP."
        )


def _losses(record: dict) -> Iterator[str]:
    yield "## Where we lose"
    yield ""
    short_of = [floor for floor in floors(record) if floor.verdict == "falls short"]
    for floor in short_of:
        yield f"* {floor.what}: {_number(floor.value)} where {floor.bound:g} was asked for."
    if not short_of:
        yield "* No floor that was measured is missed."
    even = break_even(record)
    if even and max(even["runs"].values()) > 1:
        yield (
            f"* A single run does not pay for a bank of {max(even['runs'])} regions an image: it takes "
            f"{max(even['runs'].values()):.1f}."
        )
    yield (
        "* The more classes, the less the teacher weighs in a step: text work is what remains, and two prompt spaces "
        "double it. Long class names shorten the lead over 77 positions."
    )


def _not_measured(record: dict) -> Iterator[str]:
    yield "## What was not measured"
    yield ""
    if record["device"] == "cpu":
        yield "* A GPU: all figures are of the CPU."
    yield "* Real CLIP weights: neither time nor memory depends on them, accuracy does."
    missing = [floor.what for floor in floors(record) if floor.value is None]
    if missing:
        yield f"* {'; '.join(missing)}."
    if record["profile"] != "full":
        yield "* Other students, teachers, contexts and batches: `bash scripts/benchmark.sh full`."


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
