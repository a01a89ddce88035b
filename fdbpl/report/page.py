"""`report.html`: one file that needs no network. The template escapes every text."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from fdbpl.report import charts, cost, significance
from fdbpl.report.classes import SCORES, Tested
from fdbpl.report.data import datasets_of
from fdbpl.report.experiments import Results
from fdbpl.report.figures import to_symbol
from fdbpl.report.formats import template
from fdbpl.report.groups import make_groups
from fdbpl.report.protocols import PROTOCOL_TITLES, is_synthetic, sort_datasets
from fdbpl.report.runs import STAGES, Run
from fdbpl.report.tables import Section
from fdbpl.runs.environment import part_of


@dataclass(frozen=True)
class Region:
    """One region. Predictions are (class name, probability), the most probable first.

    Attributes:
        jpeg: data URI.
        weight: w = 1 - H(p) / ln C of the teacher's distribution p over C classes.
        negative: predictions of the negative prompt space; empty without one.
    """

    jpeg: str
    image: str
    weight: float
    teacher: list[tuple[str, float]]
    positive: list[tuple[str, float]]
    negative: list[tuple[str, float]]


@dataclass(frozen=True)
class Gallery:
    """Regions selected from the `total` regions of one data set, or the reason why there are none."""

    dataset: str
    run: str
    regions: list[Region] = field(default_factory=list)
    total: int = 0
    reason: str = ""


def render_page(
    output: Path,
    results: Results,
    sections: list[Section],
    tested: list[Tested],
    folder: Path,
    galleries: list[Gallery] | None,
    thumbnails: Mapping[tuple[str, str], str],
) -> str:
    """The page of the runs below `output`, as a file in `folder` with relative links to the run folders.

    Args:
        galleries: None = not requested.
        thumbnails: data URIs of misclassified images, by path of the run and of the image.
    """
    base2new, few_shot = (make_groups(results, protocol) for protocol in ("base2new", "few_shot"))
    banks = cost.bank_costs(output, results)
    few_shot_charts, score_charts = charts.few_shot_charts(few_shot), charts.score_charts(base2new)
    learning, learning_left_out = charts.learning_charts([*base2new, *few_shot])
    reliability = [one.calibration for one in tested if one.calibration]
    looks = dict.fromkeys(look for one in [*few_shot_charts, *score_charts, *reliability] for look, _ in one.legend)
    return template("report.html").render(
        summary=_summary(results),
        data=datasets_of(results.runs),
        sections=sections,
        level=significance.LEVEL,
        links={run.path: _link(run.folder, folder) for run in results.runs},
        tested=tested,
        score_names=list(SCORES),
        thumbnails=thumbnails,
        few_shot=few_shot_charts,
        scores=score_charts,
        learning=learning,
        learning_left_out=learning_left_out,
        stages=charts.stage_charts(base2new or few_shot, banks),
        banks=banks.to_dict("records"),
        break_evens=cost.break_evens(results, banks).to_dict("records"),
        missing=results.missing,
        protocols=PROTOCOL_TITLES,
        problems=results.problems,
        galleries=galleries,
        symbols=[to_symbol(look) for look in looks],
        stage_names=STAGES,
        stage_series=charts.STAGE_SERIES,
    )


def _link(run: Path, folder: Path) -> str:
    """Relative URL of a run folder from a page in `folder`."""
    return quote(os.fsencode(Path(os.path.relpath(run, folder)).as_posix())) + "/"


def _summary(results: Results) -> dict:
    finished = [run for run in results.runs if run.finished]
    datasets = sort_datasets(run.dataset for run in finished)
    dates = sorted(str(run.record["started"])[:10] for run in finished if run.record.get("started"))
    return {
        "runs": len(finished),
        "foreign": sum(not run.exact for run in finished),
        "planned": len(results.planned),
        "missing": len(results.missing),
        "problems": len(results.problems),
        "datasets": datasets,
        "synthetic": [name for name in datasets if is_synthetic(name)],
        "trainers": sorted({run.trainer for run in finished}),
        "experiments": Counter(one.protocol for one in results.experiments),
        "dates": (dates[0], dates[-1]) if dates else None,
        "facts": [
            (title, Counter(filter(None, map(describe, finished))).most_common())
            for title, describe in (("Machine", _machine), ("Versions", _versions), ("Code", _code))
        ],
    }


def _machine(run: Run) -> str:
    machine = part_of(run.record, "machine")
    system = " ".join(str(machine.get("system")).split("-")[:2])  # e.g. Linux 6.1.0, without the build's name
    return f"{machine.get('processor')}, {machine.get('gpu') or 'no GPU'}; {system}" if machine else ""


def _versions(run: Run) -> str:
    packages = {"Python": run.record.get("python"), **part_of(run.record, "packages")}
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _code(run: Run) -> str:
    code = part_of(run.record, "code")
    changed = ", with local changes" if code.get("modified") else ""
    return f"{str(code['commit'])[:12]}{changed}" if code.get("commit") else ""
