"""Finished base-to-new pairs below an output folder -> one Markdown table."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from fdbpl.atomic import read_json
from fdbpl.errors import UserError
from fdbpl.runs.metrics import harmonic_mean


@dataclass(frozen=True)
class Pair:
    """Accuracies in percent of one run on base and on new classes."""

    dataset: str
    trainer: str
    config: str
    seed: int
    base: float
    new: float


def base2new_pairs(output: Path) -> list[Pair]:
    """Every finished pair below `output`/base2new.

    Raises:
        UserError: there is none.
    """
    root = output / "base2new" / "train_base"
    pairs = []
    for done in sorted(root.rglob("done.json")):
        base_folder = done.parent
        new_folder = output / "base2new" / "test_new" / base_folder.relative_to(root)
        if not (new_folder / "done.json").is_file():
            continue
        base, new = (read_json(folder / "metrics.json", "metrics") for folder in (base_folder, new_folder))
        pairs.append(
            Pair(
                base["dataset"],
                base["trainer"],
                base_folder.parent.name,
                base["seed"],
                base["accuracy"],
                new["accuracy"],
            )
        )
    if not pairs:
        raise UserError(f"expected finished runs below {root}, found none; run scripts/base2new_train.sh first")
    return pairs


def markdown_table(pairs: Iterable[Pair], pool: str = "") -> str:
    """Rows of mean ± standard deviation over runs; H is that of the mean accuracies, as papers quote it.

    Args:
        pool: configuration key whose values are pooled into one row, e.g. DATASET.DEMO.CLASS_SPLIT.
    """
    groups = defaultdict(list)
    for pair in pairs:
        parts = [part for part in pair.config.split("+") if not (pool and part.startswith(f"{pool}="))]
        groups[pair.dataset, pair.trainer, "+".join(parts)].append(pair)
    lines = ["| data set | trainer | configuration | runs | base | new | H |", "|---|---|---|---|---|---|---|"]
    for (dataset, trainer, config), members in sorted(groups.items()):
        base, new = [pair.base for pair in members], [pair.new for pair in members]
        mean = harmonic_mean(fmean(base), fmean(new))
        lines.append(
            f"| {dataset} | {trainer} | {config} | {len(members)} | {spread(base)} | {spread(new)} | {mean:.2f} |"
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")
