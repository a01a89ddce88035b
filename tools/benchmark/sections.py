"""Sections of docs/PERFORMANCE.md about whole runs (profile `runs`) and large data sets (profile `scale`)."""

from collections.abc import Iterator

from tools.benchmark.profiles import LINEAR_PROBE
from tools.benchmark.projection import ASSUMPTIONS, CLASSES, EPOCHS, REGIONS, RUNS, SHOTS, array_hours, measured_parts
from tools.benchmark.targets import all_of_kind, of_kind

MARGIN = 1.0  # percentage points below the best accuracy that count as equal
JOBS = (1, 3, 8, 64)


def comparison(record: dict) -> Iterator[str]:
    """Yield tables of seconds and accuracy, one for each data set."""
    points = all_of_kind(record, "Comparison")
    if not points:
        return
    yield "## Whole runs"
    yield ""
    yield (
        "Seconds from the command to the accuracy on the base classes of the demo data, the start of Python and the "
        "test included; ViT student, 16 shots, seed 1, one run each. Shorter trainings are runs of their own, since "
        "the cosine schedule ends with the training. With bank: plus the generation of all regions, which further runs "
        "of any FDBPL variant do not repeat. The test of the new classes is a second command, not counted. The "
        f"{LINEAR_PROBE} (logistic regression on the bank's student features of the training images' regions) cannot "
        "classify new classes; its epochs are regions of each image."
    )
    yield ""
    for dataset in dict.fromkeys(point["point"]["dataset"] for point in points):
        here = [point for point in points if point["point"]["dataset"] == dataset]
        goal = max(point["runs"][-1]["base"] for point in here) - MARGIN
        yield f"### {dataset}"
        yield ""
        yield f"| method | epochs | s | s with bank | base | new | s with bank to a base accuracy of {goal:.1f} |"
        yield "|---|---|---|---|---|---|---|"
        for point in here:
            run, generation = point["runs"][-1], point["generation"]
            fast = min((each["seconds"] + generation for each in point["runs"] if each["base"] >= goal), default=None)
            with_bank = f"{run['seconds'] + generation:.1f}" if generation else "-"
            new = "-" if run["new"] is None else f"{run['new']:.2f}"
            yield (
                f"| {point['point']['method']} | {run['epochs']} | {run['seconds']:.1f} | {with_bank} | "
                f"{run['base']:.2f} | {new} | {f'{fast:.1f}' if fast else 'not reached'} |"
            )
        yield ""


def scale(record: dict) -> Iterator[str]:
    """Yield tables of steps and banks of large data sets, and the projection to an array of jobs."""
    steps = all_of_kind(record, "ScaledStep")
    if not steps:
        return
    yield "## Large data sets"
    yield ""
    yield (
        f"FDBPL's step with stored image features and two prompt spaces, student {steps[0]['point']['student']}, in "
        "processes of their own. Memory: of the first step, and of the whole first process. Several processes share "
        "this machine's processors: they show the cost of distribution and the memory of a part, not the gain of more "
        "machines."
    )
    yield ""
    columns = ("classes", "context", "regions per step", "text chunk", "processes", "threads of each", "step, s",
               "memory of a step, MiB", "process, MiB")  # fmt: skip
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for step in steps:
        settings, seconds = step["point"], step["seconds"]
        peaks = (step["peak_mib"], step["process_mib"])
        memory = " | ".join("-" if mib is None else f"{mib:,.0f}" for mib in peaks)
        yield (
            f"| {settings['classes']} | {settings['context']} | {settings['batch']} | {settings['chunk'] or 'all'} | "
            f"{settings['processes']} | {step['threads']} | {seconds['median']:.3f} ({seconds['lower']:.3f} to "
            f"{seconds['upper']:.3f}) | {memory} |"
        )
    yield ""
    for bank in all_of_kind(record, "ImageNetBank"):
        settings, milliseconds = bank["point"], bank["milliseconds"]
        yield (
            f"* Bank of random numbers, {settings['images']:,} images x {settings['per_image']} regions, width "
            f"{settings['width']}, with student features: {bank['bytes'] / 1e9:.2f} GB, opened in "
            f"{bank['open_seconds']:.2f} s, lookup of {settings['batch']} regions {milliseconds['median']:.2f} ms."
        )
    if sample := of_kind(record, "GenerationSample"):
        settings = sample["point"]
        yield (
            f"* Generation with a {settings['teacher']} teacher: {sample['rates']['generation']['median']:.2f} "
            f"regions/s, measured on {settings['images'] * settings['per_image']} regions."
        )
    yield ""
    if parts := measured_parts(record):
        yield "### Projection to an array of jobs"
        yield ""
        yield (
            f"ImageNet with {SHOTS} shots: {SHOTS * CLASSES * REGIONS:,} regions, {RUNS} trainings of {EPOCHS} epochs. "
            f"{ASSUMPTIONS} Measured: {parts.region:.3f} s a region, {parts.step:.3f} s a step, {parts.start:.1f} s to "
            "the first step. Not measured: any array."
        )
        yield ""
        yield "    hours of the bank = (start + ceil(images / jobs) x regions x seconds of a region) / 3600"
        yield "    hours of training = ceil(runs / jobs) x (start + steps x seconds of a step) / 3600"
        yield ""
        yield "| jobs | hours of the bank | hours of training |"
        yield "|---|---|---|"
        for jobs in JOBS:
            labelling, training = array_hours(parts, jobs)
            yield f"| {jobs} | {labelling:.3g} | {training:.3g} |"
        yield ""
