"""`report.html`: one file that opens offline. Everything that varies is text to the template and is escaped by it."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from fdbpl.report import cost, figures
from fdbpl.report.charts import Charts
from fdbpl.report.experiments import PROTOCOLS, Results, in_order
from fdbpl.report.gallery import Gallery, galleries
from fdbpl.report.groups import groups, is_drawn
from fdbpl.report.runs import Run
from fdbpl.report.table import Section
from fdbpl.runs.environment import part_of


def page(output: Path, results: Results, sections: list[Section], folder: Path, gallery: bool = True) -> str:
    """The whole page of the runs below `output`, for a file in `folder`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fdbpl.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    grouped = {name: groups(results, name) for name in PROTOCOLS}
    draw = Charts(results, grouped)
    banks = cost.bank_costs(output, results)
    few_shot, scores, learning, stages = draw.few_shot(), draw.scores(), draw.learning(), draw.stages(banks)
    shown: list[Gallery] = galleries(output, results) if gallery else []
    return environment.get_template("report.html").render(
        summary=_summary(results),
        sections=sections,
        links={run.path: _link(run.folder, folder) for run in results.runs},
        few_shot=few_shot,
        scores=scores,
        learning=learning,
        learning_left_out=draw.left_out,
        stages=stages,
        banks=[bank for costs in banks.values() for bank in costs],
        break_evens=cost.break_evens(results, banks),
        missing=results.missing,
        protocols=PROTOCOLS,
        problems=results.problems,
        galleries=shown,
        gallery_asked=gallery,
        symbols=[(look, Markup(figures.symbol(look))) for look in draw.used],
        stage_names=cost.STAGES,
        stage_series=figures.STAGE_SERIES,
    )


def _link(run: Path, folder: Path) -> str:
    """The address of a run folder from a page in `folder`."""
    return quote(os.fsencode(Path(os.path.relpath(run, folder)).as_posix())) + "/"


# what was run ------------------------------------------------------------------------------------------------------


def _summary(results: Results) -> dict:
    """What stands on top of the page."""
    finished = [run for run in results.runs if run.finished]
    sets = in_order(run.dataset for run in finished)
    dates = sorted(str(run.record["started"])[:10] for run in finished if run.record.get("started"))
    return {
        "runs": len(finished),
        "foreign": sum(not run.exact for run in finished),
        "unfinished": len(results.runs) - len(finished),
        "planned": len(results.planned),
        "missing": len(results.missing),
        "problems": len(results.problems),
        "datasets": [(name, is_drawn(name)) for name in sets],
        "drawn": [name for name in sets if is_drawn(name)],
        "only_drawn": bool(sets) and all(map(is_drawn, sets)),
        "trainers": sorted({run.trainer for run in finished}),
        "experiments": Counter(one.protocol for one in results.experiments),
        "dates": (dates[0], dates[-1]) if dates else None,
        "machines": _different(finished, _machine),
        "versions": _different(finished, _versions),
        "code": _different(finished, _code),
    }


def _different(runs: list[Run], describe: Callable[[dict], str]) -> list[tuple[str, int]]:
    """Different descriptions with how many runs have each, the most frequent first."""
    found = Counter(text for run in runs if (text := describe(run.record)))
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _machine(record: dict) -> str:
    machine = part_of(record, "machine")
    if not machine:
        return ""
    system = " ".join(str(machine.get("system")).split("-")[:2])  # Linux 6.1.0, without the build's name
    return f"{machine.get('processor')}, {machine.get('gpu') or 'no GPU'}; {system}"


def _versions(record: dict) -> str:
    packages = {"Python": record.get("python"), **part_of(record, "packages")}
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _code(record: dict) -> str:
    code = part_of(record, "code")
    if not code.get("commit"):
        return ""
    return f"{str(code['commit'])[:12]}{', with local changes' if code.get('modified') else ''}"
