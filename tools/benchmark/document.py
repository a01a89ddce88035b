"""docs/PERFORMANCE.md, from `benchmark.json` alone."""

from collections.abc import Iterator

from tools.benchmark.lower_bound import CONTENT
from tools.benchmark.profiles import ARMS
from tools.benchmark.tables import first_step, number, table
from tools.benchmark.targets import break_even, floors, measured_arms, of_kind, short, steps


def document(record: dict) -> str:
    """docs/PERFORMANCE.md."""
    return "\n".join(
        [
            "# How fast it is",
            "",
            "Written by `python -m tools.benchmark document benchmark.json`; all figures come from that file (in the "
            "repository docs/performance.json).",
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
        "* All arms in one process on the same pictures, boxes and class names, in turn, round by round; medians, "
        "quartiles in brackets. Every step ends with the backward pass and the optimiser's step (but the limit's)."
    )
    yield f"* {_warm_up(record)}"
    yield f"* Memory: {record['memory']}. Models: weights that the arm holds."


def _warm_up(record: dict) -> str:
    """What it means that slow arms take one step only."""
    said = (
        "Untimed before: a step of what is quick ((c), (d), (e), region banks), a part of one (two regions) of what is "
        "slow. The first timed step, for which all memory is handed out anew, counts only where there was no time "
        'for more: "one step" is the arm\'s first at full size, or its second and last. So a ratio of one step over '
        "the median of later ones is to our advantage; the fair one is of first steps, over (d)'s own, "
    )
    if any(first_step(point, "d") for point in steps(record)):
        return f"{said}below the tables."
    return f"{said}which this record does not hold."


def _arms(record: dict) -> Iterator[str]:
    yield "## What is compared"
    yield ""
    for letter in measured_arms(record):
        yield f"* ({short(letter)}) {ARMS[letter]}."
    yield ""
    yield (
        "(a*), (c) and (d) are this project's trainers as `train.py` runs them; (a) and (b) are written for the "
        "benchmark after the official recipes, with CLIP's own text tower, and equal (a*) and (c) in loss and gradient "
        "to 1e-5 (`tests/tools`; (b) but for the cascaded difference, which the release adds up to zero). All that "
        "read pixels cut them from JPEGs in the step, by the same pipeline."
    )
    yield f"(e) contains {CONTENT}."


def _exactness(record: dict) -> Iterator[str]:
    yield "## What is exact, what approximate"
    yield ""
    yield (
        "The text shortcuts and looked-up labels are exact up to rounding (docs/FDBPL.md): losses and gradients of "
        "(a) and (a*) agree to 1e-5. Approximate is float16 in the bank, of embeddings and image features: 5e-4 of an "
        "entry."
    )
    if found := of_kind(record, "Rounding"):
        yield (
            f"With trained weights (the demo's teacher, {found['images']} pictures, {found['classes']} classes) it "
            f"changes a teacher logit by at most {found['logits']:.1e} (of up to {found['largest_logit']:.1f}), a "
            f"probability by {found['probability']:.1e}, the region weight w by {found['w']:.1e}; the first class "
            f"stays the same for {100 * found['same_first_class']:.0f} % of them. Its effect on final accuracy "
            'on the demo world is in docs/RESULTS.md ("Accuracy of stored features"); it was not measured with '
            "real CLIP."
        )


def _losses(record: dict) -> Iterator[str]:
    yield "## Where we lose"
    yield ""
    measured = [(floor, floor.value) for floor in floors(record) if floor.value is not None]
    short_of = [(floor, value) for floor, value in measured if floor.verdict == "falls short"]
    for floor, value in short_of:
        yield f"* {floor.what}: {number(value)} where {floor.bound:g} was asked for."
    if not short_of:
        yield "* No floor that was measured is missed."
    even = break_even(record)
    if even and max(even["runs"].values()) > 1:
        yield (
            f"* A single run does not pay for a bank of {max(even['runs'])} regions an image: it takes "
            f"{max(even['runs'].values()):.1f}."
        )
    if whole := of_kind(record, "WholeRun"):
        (ours, seconds), (twin, online) = whole["seconds"].items()
        if (alone := seconds + whole["generation"]) > online:
            yield (
                f"* A single run on the demo world, whose teacher is small: {ours} takes {alone:.1f} s with its bank, "
                f"{twin} {online:.1f} s."
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
    missing = [floor for floor in floors(record) if floor.value is None]
    if missing:
        yield f"* {'; '.join(floor.named for floor in missing)}."
    arms = measured_arms(record)
    for letter, text in ARMS.items():
        if letter not in arms:
            yield f"* ({short(letter)}) {text}."
    for point in steps(record):
        if absent := [f"({short(letter)})" for letter in arms if letter not in point["arms"]]:
            yield f"* With {point['point']['classes']} classes: {', '.join(absent)}."
    if record["profile"] != "full":
        yield (
            "* The sweeps over students, teachers, contexts and batches: `bash scripts/benchmark.sh full` (hours) was "
            "not run for this page."
        )
    if whole := of_kind(record, "WholeRun"):
        trainers = " and ".join(whole["seconds"])
        yield f"* The spread of whole runs: one each of {trainers}, one seed, on the demo world."
