"""Tables of a benchmark and docs/PERFORMANCE.md, generated from benchmark.json."""

from collections.abc import Iterator

from tools.benchmark.lower_bound import CONTENT
from tools.benchmark.profiles import OURS, REWRITES, VARIANTS
from tools.benchmark.sections import comparison, scale
from tools.benchmark.targets import (
    EPOCHS,
    IMAGES,
    break_even,
    label,
    measured_variants,
    median,
    of_kind,
    ratio,
    seconds_of_a_region,
    steps,
    targets,
)


def page(record: dict) -> str:
    """Return the text of docs/PERFORMANCE.md."""
    parts = [
        "# Performance", "",
        "Written by `python -m tools.benchmark document FILE` from docs/performance.json.", "",
        *_machine(record), "", *_variants(record), "", *_measurements(record), "",
        *comparison(record), *_chart(record, "Comparison", "runs", "Accuracy against seconds"),
        *scale(record), *_chart(record, "ScaledStep", "scale", "Cost against the size of the data"),
        *_precision(record), "",
        *_limitations(record), "", *_not_measured(record), "",
    ]  # fmt: skip
    return "\n".join(parts)


def tables(record: dict) -> str:
    """Return variants, targets, steps and other measurements as Markdown."""
    sections = (_variants, _targets, _measurements, comparison, scale)
    return "\n".join(line for section in sections if (lines := list(section(record))) for line in [*lines, ""])


def _chart(record: dict, kind: str, name: str, alternative: str) -> Iterator[str]:
    if of_kind(record, kind):
        yield f"![{alternative}](images/performance-{name}.svg)"
        yield ""


def _measurements(record: dict) -> list[str]:
    return [*_steps(record), *_visual(record), *_others(record), *_break_even(record)]


def _machine(record: dict) -> Iterator[str]:
    environment = record["environment"]
    machine, packages = environment["machine"], environment["packages"]
    installed = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    images = "Photographs" if record["photographs"] else "Synthetic images of 500 x 375 pixels"
    for part in record.get("measured", [{**record, "code": environment["code"]}]):  # the records that it merges
        commit = (part["code"]["commit"] or "unknown")[:12] + " (modified)" * part["code"]["modified"]
        yield f"* Command: `{part['command']}`, {part['date']}, code {commit}."
    yield (
        f"* Machine: {machine['processor']}, {record['threads']} threads of torch, "
        f"{machine['gpu'] or 'no GPU'}, {machine['system']}."
    )
    yield f"* Python {environment['python']}, {installed}."
    yield f"* CLIP models of the published architectures with random weights, which do not change times. {images}."
    yield (
        "* All variants run in turn in one process on the same data, and all are timed alike: after one whole step as "
        "a warm-up, at least three timed steps each. Medians, quartiles in brackets; ratios are those of medians."
    )
    yield f"* Memory: {record['memory']}. Models: weights that the variant holds."


def _variants(record: dict) -> Iterator[str]:
    if not steps(record):
        return
    yield "## Variants"
    yield ""
    for name in measured_variants(record):
        yield f"* ({label(name)}) {VARIANTS[name]}."
    yield ""
    yield (
        "A step includes decoding, the backward pass and the optimizer, except in (e). (a) and (b) follow the official "
        "recipes; their losses and gradients equal those of (a*) and (c) to 1e-5 (`tests/tools`), (b) without the "
        "cascaded difference."
    )
    yield f"(e) contains {CONTENT}."
    if commits := ", ".join(f"{name} {commit[:12]}" for name, commit in record.get("official", {}).items()):
        yield (
            f"Official code ({commits}) builds its own models, with the same weights, and takes its own steps; images "
            "and Dassl are ours."
        )


def _targets(record: dict) -> Iterator[str]:
    if measured := [target for target in targets(record) if target.value is not None]:
        yield "## Performance targets"
        yield ""
        yield "| what | target | measured | |"
        yield "|---|---|---|---|"
        for target in measured:
            bound = f"{'<=' if target.at_most else '>='} {target.bound:g}"
            yield f"| {target.title} | {bound} | {number(target.value or 0)} | {target.verdict} |"


def _steps(record: dict) -> Iterator[str]:
    for point in steps(record):
        settings, positions = point["point"], point["positions"]
        yield (
            f"## Training step: student {settings['student']}, teacher {settings['teacher']}, {settings['classes']} "
            f"classes, {settings['context']} context tokens, batch {settings['batch']}"
            f"{', official code' if _only_rewrites(point) else ''}"
        )
        yield ""
        yield f"The longest prompt has {positions['all']} positions, of which all prompts share {positions['shared']}."
        yield ""
        yield "| | warm-up, s | step, s | over (d) | memory of a step, MiB | models, MiB |"
        yield "|---|---|---|---|---|---|"
        for name, result in point["variants"].items():
            value, part = ratio(point, name, "d"), point["classes_at_once"].get(name)
            yield (
                f"| ({label(name)}) | {result['warm_up']:.3f} | {_seconds(result)} "
                f"| {number(value) if value else '-'} | {_mib(result['peak_mib'])}"
                f"{f' ({part} classes at a time)' if part else ''} | {_mib(result['model_mib'])} |"
            )
        yield ""
        if value := ratio(point, "d", "e"):
            yield f"(d) takes {value:.2f} times as long as (e)."
            yield ""
        for name in REWRITES:
            if value := ratio(point, name, f"{name}_official"):
                yield f"Our ({name}) takes {value:.2f} times as long as the official code."
                yield ""
        if point["classes_at_once"]:
            yield (
                "Where the activations of all classes do not fit into memory, the classes pass in parts. The gradient "
                "of the class features is then computed outside the timed step, which favours that variant."
            )
            yield ""


def _visual(record: dict) -> Iterator[str]:
    if not (point := of_kind(record, "Visual")):
        return
    settings = point["point"]
    yield (
        f"## Visual prompts: student {settings['student']}, teacher {settings['teacher']}, {settings['classes']} "
        f"classes, batch {settings['batch']}"
    )
    yield ""
    yield "| method | online teacher, s | region bank, s | ratio |"
    yield "|---|---|---|---|"
    for method in settings["methods"]:
        online, stored = (point[method][name] for name in (f"{method}_KDPL", f"FDBPL_{method}"))
        ratio = median(online) / median(stored)
        yield f"| {method} | {_seconds(online)} | {_seconds(stored)} | {number(ratio)} |"
    yield ""


def _others(record: dict) -> Iterator[str]:
    if not any(of_kind(record, kind) for kind in ("Lookup", "Generation", "Pipeline", "WholeRun")):
        return
    yield "## Other measurements"
    yield ""
    if lookup := of_kind(record, "Lookup"):
        settings, (before, after, most) = lookup["point"], lookup["resident_mib"]
        regions, milliseconds = settings["images"] * settings["per_image"], lookup["milliseconds"]
        yield (
            f"* Lookup of {settings['batch']} random regions of {regions:,}, files in the system's cache: "
            f"{_spread(milliseconds, '.2f')} ms. Opening takes {lookup['open_seconds']:.1f} s. Resident memory: "
            f"{before:.0f} MiB before {milliseconds['count']} lookups, {after:.0f} after, at most {most:.0f}."
        )
    if made := of_kind(record, "Generation"):
        rates = ", ".join(f"{name} {rate['median']:.1f} regions/s" for name, rate in made["rates"].items())
        yield f"* Generation with teacher {made['point']['teacher']}: {rates}."
    if pipeline := of_kind(record, "Pipeline"):
        for count, rates in pipeline["rates"].items():
            cells = ", ".join(f"{name} {rate['median']:.0f}" for name, rate in rates.items())
            yield f"* Decoding, {count} consecutive regions per image, regions/s: {cells}."
    if whole := of_kind(record, "WholeRun"):
        (ours, seconds), (online_name, online) = whole["seconds"].items()
        yield (
            f"* Whole runs of train.py on the demo, {whole['point']['epochs']} epochs with the test: {ours} "
            f"{seconds:.1f} s, {online_name} {online:.1f} s. Generation of the bank takes {whole['generation']:.1f} s "
            f"once. The first step begins after {whole['starts']['median']:.1f} s."
        )
    yield ""


def _break_even(record: dict) -> Iterator[str]:
    if region := seconds_of_a_region(record):
        yield "## Cost of a region bank"
        yield ""
        yield f"Labelling takes {region:.3f} s per region, the student's features included."
        if runs := break_even(record):
            counts = ", ".join(f"{count:.1f} runs at {regions} regions per image" for regions, count in runs.items())
            yield f"With {IMAGES} images and {EPOCHS} epochs a bank saves its own cost over (a) after {counts}."
        else:
            yield "The break-even over (a) is not given: the record holds no steps of (a) and (d)."


def _precision(record: dict) -> Iterator[str]:
    yield "## Exact and approximate parts"
    yield ""
    yield (
        "The text encoder's shortcuts are exact up to float32 rounding (docs/FDBPL.md). The bank stores embeddings and "
        "image features in float16, a relative error of 5e-4."
    )
    if found := of_kind(record, "Rounding"):
        yield (
            f"With the trained weights of the demo's teacher ({found['images']} images, {found['classes']} classes) "
            f"this changes a teacher logit by at most {found['logits']:.1e} (of up to {found['largest_logit']:.1f}), a "
            f"probability by {found['probability']:.1e} and the region weight w by {found['w']:.1e}. The effect was "
            "not measured with real CLIP weights."
        )


def _limitations(record: dict) -> Iterator[str]:
    yield "## Limitations"
    yield ""
    missed = [target for target in targets(record) if target.verdict == "missed"]
    for target in missed:
        yield f"* Target missed: {target.title}: {number(target.value or 0)} instead of {target.bound:g}."
    if not missed:
        yield "* Every performance target that was measured is met; `bash scripts/benchmark.sh` prints them."
    for regions, runs in (break_even(record) or {}).items():
        if runs > 1:
            yield f"* A bank of {regions} regions per image saves time only from {runs:.1f} runs on."
    if whole := of_kind(record, "WholeRun"):
        (ours, seconds), (online_name, online) = whole["seconds"].items()
        if (alone := seconds + whole["generation"]) > online:
            yield (
                f"* On the demo, whose teacher is small, a single run is slower than online distillation: {ours} takes "
                f"{alone:.1f} s with its bank, {online_name} {online:.1f} s."
            )
    yield "* The gain falls with the number of classes: text encoding dominates, and two prompt spaces double it."


def _not_measured(record: dict) -> Iterator[str]:
    yield "## Not measured"
    yield ""
    if record["device"] == "cpu":
        yield "* GPUs: all figures are from a CPU."
    yield "* Real CLIP weights, which change accuracy but neither time nor memory."
    if absent := [target.title for target in targets(record) if target.value is None]:
        yield f"* Targets: {'; '.join(absent)}."
    variants = measured_variants(record)
    for name, text in VARIANTS.items():
        if name not in variants:
            yield f"* ({label(name)}) {text}."
    for point in steps(record):
        absent = [f"({label(name)})" for name in OURS if name in variants and name not in point["variants"]]
        if absent and not _only_rewrites(point):
            yield f"* With {point['point']['classes']} classes: {', '.join(absent)}."
    if record["profile"] != "full":
        yield "* Other students, teachers, contexts and batches: `bash scripts/benchmark.sh full` takes hours."
    if whole := of_kind(record, "WholeRun"):
        yield f"* Variation of whole runs: one run each of {' and '.join(whole['seconds'])}."


def number(value: float) -> str:
    """Format a value with three significant digits, or with all digits of the integer part."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _only_rewrites(point: dict) -> bool:
    """Return whether a point compares rewrites with official code only."""
    return all(name in REWRITES or name.endswith("_official") for name in point["variants"])


def _seconds(result: dict) -> str:
    return f"{_spread(result['seconds'], '.3f')}, {result['seconds']['count']} steps"


def _spread(values: dict, digits: str) -> str:
    if values["count"] == 1:
        return f"{values['median']:{digits}}"
    return f"{values['median']:{digits}} ({values['lower']:{digits}} to {values['upper']:{digits}})"


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
