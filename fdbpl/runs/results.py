"""Results of a protocol in one line: percent with two decimals, from metrics at full precision."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from fdbpl.errors import UserError
from fdbpl.runs.folder import REMEDY, read_metrics
from fdbpl.runs.metrics import harmonic_mean


def counted(number: int, word: str) -> str:
    """Return e.g. `1 shot` or `2 shots`."""
    return f"{number} {word}{'s' * (number != 1)}"


def shots_text(number: int) -> str:
    """Return e.g. `1 shot` or `2 shots`, and `all images` for -1."""
    return "all images" if number == -1 else counted(number, "shot")


def base2new_line(base: Path, new: Path, learned: str = "base") -> str:
    """Return `FDBPL demo seed1: base 00.00 new 00.00 H 00.00`.

    Args:
        base, new: folders of the runs that were tested on the base and on the new classes.
        learned: the classes of the training, "base" or "all"; "all" is mentioned.
    """
    first, second = _metrics_of(base), _metrics_of(new)
    accuracies = first["accuracy"], second["accuracy"]
    mark = " (learned from all classes)" if learned == "all" else ""
    return (
        f"{first['trainer']} {first['dataset']} seed{first['seed']}{mark}: base {accuracies[0]:.2f} "
        f"new {accuracies[1]:.2f} H {harmonic_mean(*accuracies):.2f}{_collapse(first)}"
    )


def few_shot_line(runs: Sequence[Path]) -> str:
    """Return `FDBPL demo seed1: 1 shot 00.00 2 shots 00.00`."""
    found = [_metrics_of(folder) for folder in runs]
    points = []
    for metrics in found:
        points.append(f"{shots_text(_shots(metrics))} {metrics['accuracy']:.2f}{_collapse(metrics)}")
    return f"{found[0]['trainer']} {found[0]['dataset']} seed{found[0]['seed']}: {' '.join(points)}"


def transfer_line(source: Path, tests: Sequence[Path], without: Sequence[str] = ()) -> str:
    """Return `FDBPL demo seed1 shots 16 -> demo_sketch 00.00 demo_world 00.00 average 00.00`.

    Args:
        source: folder of the training run. tests: of its tests on the targets.
        without: targets that could not be tested: named, and no average is given.
    """
    trained = _metrics_of(source)
    found = [_metrics_of(folder) for folder in tests]
    parts = [f"{metrics['dataset']} {metrics['accuracy']:.2f}" for metrics in found]
    parts.append(
        f"(not tested: {', '.join(without)})" if without else f"average {fmean(run['accuracy'] for run in found):.2f}"
    )
    shots = str(_shots(trained)).replace("-1", "all")
    what = f"{trained['trainer']} {trained['dataset']} seed{trained['seed']} shots {shots}"
    return f"{what} -> {' '.join(parts)}{_collapse(trained)}"


def _collapse(metrics: dict) -> str:
    """Return a remark if the training collapsed."""
    return " (the training collapsed, see its log)" if metrics.get("collapsed") is True else ""


def _shots(metrics: dict) -> int:
    protocol = metrics.get("protocol")
    shots = protocol.get("shots") if isinstance(protocol, dict) else None
    if not isinstance(shots, int):
        raise UserError(f"The number of shots in the metrics of a run is {shots!r:.60}; {REMEDY}")
    return shots


def _metrics_of(folder: Path) -> dict:
    return read_metrics(folder, trainer=str, dataset=str, seed=int)
