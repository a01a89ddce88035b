"""The result of a protocol in one line: percent with two decimals, from metrics at full precision."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from fdbpl.atomic import read_json
from fdbpl.runs.metrics import harmonic_mean


def counted(number: int, word: str) -> str:
    """`1 shot`, `2 shots`"""
    return f"{number} {word}{'s' * (number != 1)}"


def metrics_of(folder: Path) -> dict:
    """metrics.json of a finished run.

    Raises:
        UserError: there is none.
    """
    return read_json(folder / "metrics.json", "the metrics of a finished run")


def base2new_line(base: Path, new: Path) -> str:
    """`FDBPL demo seed1: base 00.00 new 00.00 H 00.00`"""
    first, second = metrics_of(base), metrics_of(new)
    accuracies = first["accuracy"], second["accuracy"]
    return (
        f"{first['trainer']} {first['dataset']} seed{first['seed']}: base {accuracies[0]:.2f} "
        f"new {accuracies[1]:.2f} H {harmonic_mean(*accuracies):.2f}"
    )


def few_shot_line(runs: Sequence[Path]) -> str:
    """`FDBPL demo seed1: 1 shot 00.00 2 shots 00.00`"""
    found = [metrics_of(folder) for folder in runs]
    points = []
    for metrics in found:
        points.append(f"{counted(metrics['protocol']['shots'], 'shot')} {metrics['accuracy']:.2f}")
    return f"{found[0]['trainer']} {found[0]['dataset']} seed{found[0]['seed']}: {' '.join(points)}"


def transfer_line(source: Path, tests: Sequence[Path], without: Sequence[str] = ()) -> str:
    """`FDBPL demo seed1 shots 16 -> demo_sketch 00.00 demo_world 00.00 average 00.00`

    Args:
        source: folder of the training run. tests: of its tests on the targets.
        without: targets that could not be tested: named, and no average is given.
    """
    trained = metrics_of(source)
    found = [metrics_of(folder) for folder in tests]
    parts = [f"{metrics['dataset']} {metrics['accuracy']:.2f}" for metrics in found]
    parts.append(
        f"(not tested: {', '.join(without)})" if without else f"average {fmean(run['accuracy'] for run in found):.2f}"
    )
    shots = trained["protocol"]["shots"]
    return f"{trained['trainer']} {trained['dataset']} seed{trained['seed']} shots {shots} -> {' '.join(parts)}"
