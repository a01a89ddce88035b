"""What a comparison would run, without running it: counts, commands, weights that are not here yet."""

import shlex
from functools import cache
from pathlib import Path

from fdbpl.configuration import pairs, read_yaml
from fdbpl.runs.comparison import Cell, Comparison, banks

yaml_values = cache(read_yaml)


def plan(comparison: Comparison) -> str:
    """Lines: a summary, the missing weights, then `done` or `to do` and the command of each cell."""
    to_do = [cell for cell in comparison.cells if not cell.finished]
    count, calls = len(comparison.cells), len(banks(to_do))
    rows = len(set(comparison.rows))
    datasets = list(dict.fromkeys(cell.row.dataset for cell in comparison.cells))
    seeds = " ".join(comparison.seeds)
    lines = [
        f"{comparison.protocol}: {count} {'run' if count == 1 else 'runs'} "
        f"({rows} {'row' if rows == 1 else 'rows'}, data sets {' '.join(datasets)}, seeds {seeds}, "
        f"shots {' '.join(comparison.shots)}), {count - len(to_do)} done, {len(to_do)} to do"
        + f", before them {calls} {'call' if calls == 1 else 'calls'} of generate_regions.sh" * bool(calls)
    ]
    missing = missing_weights(to_do)
    lines += [f"missing weights, loaded on first use: {', '.join(missing)}"] * bool(missing)
    for cell in comparison.cells:
        lines.append(f"  {'to do' if cell in to_do else 'done '} {shlex.join(cell.call()[1:])}")
    return "\n".join(lines)


def missing_weights(cells: list[Cell]) -> list[str]:
    """Names of the students' and teachers' weights that `cells` need and that are not on this machine."""
    from fdbpl.backbones import weights_at_hand

    names: dict[str, None] = {}
    for cell in cells:
        files = (Path("configs/datasets", f"{cell.row.dataset}.yaml"), cell.row.config)
        settings = {key: value for file in files for key, value in yaml_values(str(file)).items()}
        settings.update(pairs(list(cell.overrides)))
        names[settings["MODEL.BACKBONE.NAME"]] = None
        if cell.row.trainer.startswith(("FDBPL", "PromptKD")) or cell.row.trainer.endswith("_KDPL"):
            names[settings["TEACHER.NAME"]] = None
    return [name for name in names if not name.startswith("run:") and not weights_at_hand(name)]
