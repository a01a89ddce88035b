"""Rows of a comparison (a trainer with overrides), each run with several seeds on base and new classes -> one table."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from fdbpl.atomic import read_json
from fdbpl.errors import UserError
from fdbpl.runs.folder import config_name
from fdbpl.runs.metrics import harmonic_mean

HEADER = ("", "runs", "base", "new", "H", "learnt", "ms/step", "s training", "s in all", "MiB")


@dataclass(frozen=True)
class Row:
    """One line of the table: what is run with every seed and variant."""

    label: str
    trainer: str
    config: str
    overrides: tuple[str, ...] = ()

    def overrides_of(self, node: str) -> tuple[tuple[str, str], ...]:
        """The overrides below a node of the configuration."""
        pairs = zip(self.overrides[::2], self.overrides[1::2], strict=True)
        return tuple(sorted(pair for pair in pairs if pair[0].startswith(node)))


def read_rows(lines: Iterable[str]) -> list[Row]:
    """Rows of tab-separated lines: label, trainer, configuration, then overrides KEY VALUE ..."""
    rows = []
    for line in lines:
        label, trainer, config, *overrides = line.rstrip("\n").split("\t")
        rows.append(Row(label, trainer, config, tuple(overrides)))
    return rows


def variants(each: str) -> list[tuple[str, ...]]:
    """"KEY=1,2" -> [("KEY", "1"), ("KEY", "2")]; nothing -> one empty variant."""
    if not each:
        return [()]
    key, equals, values = each.partition("=")
    if not equals or not values:
        raise UserError(f"expected KEY=VALUE,VALUE,... as EACH, found {each!r}; e.g. DATASET.DEMO.CLASS_SPLIT=1,2")
    return [(key, value) for value in values.split(",")]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and where its runs lie.

    Attributes:
        output: the scripts' OUTPUT. shots: the scripts' SHOTS. seeds: of every row.
        common: overrides of every row. each: overrides to run through like seeds, see `variants`.
    """

    output: Path
    dataset: str
    shots: str
    seeds: Sequence[str]
    rows: Sequence[Row]
    common: tuple[str, ...] = ()
    each: str = ""

    def runs(self) -> list[list[str]]:
        """Calls of base2new_train.sh, in the order seed, row: the first seed's table is complete first."""
        runs = itertools.product(self.seeds, variants(self.each), self.rows)
        return [self._call("base2new_train.sh", row, seed, variant) for seed, variant, row in runs]

    def banks(self) -> list[list[str]]:
        """Calls that make what the runs share, so that runs at the same time do not make it twice."""
        readers = [row for row in self.rows if row.trainer.startswith("FDBPL")]
        draws = {row.overrides_of("REGIONS."): row for row in reversed(readers)}
        for row in readers:
            if row.trainer == "FDBPL":  # it looks the student's features up as well
                draws[row.overrides_of("REGIONS.")] = row
        calls = itertools.product(draws.values(), self.seeds, variants(self.each))
        return [self._call("generate_regions.sh", row, seed, variant) for row, seed, variant in calls]

    def _call(self, script: str, row: Row, seed: str, variant: tuple[str, ...]) -> list[str]:
        settings = [f"CFG={row.config}", f"OUTPUT={self.output}", f"SHOTS={self.shots}", "SUB=base"]
        overrides = [*self.common, *variant, *row.overrides]
        return ["env", *settings, "bash", f"scripts/{script}", self.dataset, seed, row.trainer, *overrides]

    def table(self) -> str:
        """Markdown: means ± standard deviations over the finished runs of each row."""
        lines = [HEADER, ("---",) * len(HEADER), *(self._cells(row) for row in self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _cells(self, row: Row) -> tuple[str, ...]:
        pairs = list(self._finished(row))
        wanted = len(self.seeds) * len(variants(self.each))
        count = str(len(pairs)) if len(pairs) == wanted else f"{len(pairs)} of {wanted}"
        if not pairs:
            return (row.label, count, *("-" * (len(HEADER) - 2)))
        base, new = ([metrics["accuracy"] for metrics in side] for side in zip(*pairs, strict=True))
        training = [metrics for metrics, _ in pairs]
        steps = [metrics["seconds"]["step"] for metrics in training if metrics["steps"]]
        return (
            row.label,
            count,
            spread(base),
            spread(new),
            spread([harmonic_mean(*pair) for pair in zip(base, new, strict=True)]),
            f"{training[0]['parameters']:,}",
            f"{1000 * fmean(steps):.1f}" if steps else "-",
            f"{fmean([metrics['seconds'].get('train', 0.0) for metrics in training]):.1f}",
            f"{fmean([metrics['seconds']['total'] for metrics in training]):.1f}",
            f"{max(metrics['peak_memory_mib']['host'] for metrics in training):.0f}",
        )

    def _finished(self, row: Row) -> Iterable[tuple[dict, dict]]:
        for seed, variant in itertools.product(self.seeds, variants(self.each)):
            name = config_name(row.config, [*self.common, *variant, *row.overrides])
            run = Path(self.dataset, f"shots_{self.shots}", row.trainer, name, f"seed{seed}")
            pair = [self.output / "base2new" / part / run for part in ("train_base", "test_new")]
            if all((folder / "done.json").is_file() for folder in pair):
                base, new = (read_json(folder / "metrics.json", "the metrics of a finished run") for folder in pair)
                yield base, new


def spread(values: list[float]) -> str:
    return f"{fmean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")
