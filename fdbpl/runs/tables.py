"""A comparison's finished runs as Markdown tables, one for each data set."""

import itertools
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean, stdev

from fdbpl.runs.comparison import Comparison, Row
from fdbpl.runs.metrics import harmonic_mean
from fdbpl.runs.results import metrics_of

COST = ("learnt", "ms/step", "s training", "s in all", "MiB")


def tables(comparison: Comparison) -> str:
    """Means ± standard deviations over the finished runs of each row, seeds and variants alike."""
    parts = []
    for dataset, rows in itertools.groupby(comparison.rows, key=lambda row: row.name):
        title = [f"{comparison.protocol}: {dataset}", ""] if len({row.name for row in comparison.rows}) > 1 else []
        parts.append("\n".join([*title, _table(comparison, list(rows))]))
    return "\n\n".join(parts)


def _table(comparison: Comparison, rows: list[Row]) -> str:
    columns = {"base2new": _base2new, "few_shot": _few_shot}.get(comparison.protocol, _transfer)
    targets = list(dict.fromkeys(target for row in rows for target in row.targets))
    header, cells = columns(comparison, rows, targets)
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *cells))


def _base2new(comparison: Comparison, rows: list[Row], targets: list[str]) -> tuple[list[str], list[list[str]]]:
    header = ["", "runs", "base", "new", "H", *COST]
    lines = []
    for row in rows:
        folders = [cell.folders for cell in comparison.cells_of(row, comparison.shots[0])]
        pairs = [list(map(metrics_of, pair)) for pair in folders if all(map(_done, pair))]
        line = [row.label, _count(len(pairs), len(folders))]
        if not pairs:
            lines.append(line + ["-"] * (len(header) - 2))
            continue
        base, new = ([metrics["accuracy"] for metrics in half] for half in zip(*pairs, strict=True))
        h = [harmonic_mean(*pair) for pair in zip(base, new, strict=True)]
        lines.append([*line, spread(base), spread(new), spread(h), *_cost([pair[0] for pair in pairs])])
    return header, lines


def _few_shot(comparison: Comparison, rows: list[Row], targets: list[str]) -> tuple[list[str], list[list[str]]]:
    header = ["", "runs", *(f"{shots} {'shot' if shots == '1' else 'shots'}" for shots in comparison.shots)]
    lines = []
    for row in rows:
        points = [[cell.folders[0] for cell in comparison.cells_of(row, shots)] for shots in comparison.shots]
        done = [_accuracies(folders) for folders in points]
        lines.append([row.label, _count(sum(map(len, done)), sum(map(len, points))), *map(spread, done)])
    return header, lines


def _transfer(comparison: Comparison, rows: list[Row], targets: list[str]) -> tuple[list[str], list[list[str]]]:
    """The average is over targets; it is given where all of them are there."""
    lines = []
    for row in rows:
        folders = [cell.folders for cell in comparison.cells_of(row, comparison.shots[0])]
        whole = [list(map(metrics_of, runs)) for runs in folders if all(map(_done, runs))]
        average = [fmean(metrics["accuracy"] for metrics in runs[1:]) for runs in whole]
        by_target = {target: _accuracies([runs[1 + place] for runs in folders])
                     for place, target in enumerate(row.targets)}  # fmt: skip
        source = spread(_accuracies([runs[0] for runs in folders]))
        accuracies = [spread(by_target.get(target, [])) for target in targets]
        lines.append([row.label, _count(len(whole), len(folders)), source, *accuracies, spread(average)])
    return ["", "runs", f"{rows[0].name} (source)", *targets, "average"], lines


def _done(folder: Path) -> bool:
    return (folder / "done.json").is_file()


def _accuracies(folders: Iterable[Path]) -> list[float]:
    return [metrics_of(folder)["accuracy"] for folder in folders if _done(folder)]


def _count(done: int, wanted: int) -> str:
    return str(done) if done == wanted else f"{done} of {wanted}"


def _cost(training: list[dict]) -> list[str]:
    steps = [metrics["seconds"]["step"] for metrics in training if metrics["steps"]]
    return [
        f"{training[0]['parameters']:,}",
        f"{1000 * fmean(steps):.1f}" if steps else "-",
        f"{fmean([metrics['seconds'].get('train', 0.0) for metrics in training]):.1f}",
        f"{fmean([metrics['seconds']['total'] for metrics in training]):.1f}",
        f"{max(metrics['peak_memory_mib']['host'] for metrics in training):.0f}",
    ]


def spread(values: list[float]) -> str:
    if not values:
        return "-"
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")
