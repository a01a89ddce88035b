"""The page of a check: a table of the stages, and one of the results of each."""

from collections.abc import Iterable, Iterator

from fdbpl.errors import shortened

LONGEST_CELL = 300


def page(record: dict, order: Iterable[str]) -> str:
    """Return the record as Markdown, with the stages in `order`."""
    return "\n".join(_lines(record, [name for name in order if name in record["stages"]])) + "\n"


def _lines(record: dict, names: list[str]) -> Iterator[str]:
    environment, stages = record["environment"], record["stages"]
    machine, code = environment["machine"], environment["code"]
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    yield "# GPU check"
    yield ""
    yield f"* Command: `{record['command']}`, {record['date']}."
    yield f"* {machine['gpu']}, {machine['processor']}, {machine['system']}."
    yield f"* Python {environment['python']}, {versions}; code {(code['commit'] or 'unknown')[:12]}."
    yield f"* Student {record['sizes']['student']} and teacher {record['sizes']['teacher']} with random weights."
    yield "* Medians, quartiles in brackets. Differences of pixels are of 255."
    yield ""
    yield from _table(
        [{"stage": name, "result": _verdict(stages[name]), "s": stages[name]["seconds"]} for name in names]
    )
    for name in names:
        if rows := stages[name].get("rows"):
            yield ""
            yield f"## {name}"
            yield ""
            yield from _table(rows)


def _verdict(stage: dict) -> str:
    if "failed" in stage:
        return f"failed: {stage['failed']}"
    failed = sum("failed" in row for row in stage["rows"])
    return f"{failed} of {len(stage['rows'])} failed" if failed else "passed"


def _table(rows: list[dict]) -> Iterator[str]:
    columns = dict.fromkeys(key for row in rows for key in row if key != "where")
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(_cell(row.get(key, '')) for key in columns)} |"


def _cell(value: object) -> str:
    if isinstance(value, dict):  # a `summary`
        quartiles = f" ({value['lower']:.4g} to {value['upper']:.4g})" if value["count"] > 1 else ""
        return f"{value['median']:.4g}{quartiles}"
    return f"{value:.4g}" if isinstance(value, float) else shortened(str(value), LONGEST_CELL).replace("|", "\\|")
