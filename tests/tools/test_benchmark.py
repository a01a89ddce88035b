"""The benchmark as users run it, on tiny towers; no time is held against anything."""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest

from fdbpl.errors import UserError
from tools.benchmark.document import document
from tools.benchmark.memory import PeakMemory
from tools.benchmark.profiles import PROFILES, Pipeline
from tools.benchmark.run import run
from tools.benchmark.stages import measure_pipeline
from tools.benchmark.tables import table
from tools.benchmark.targets import break_even, floors, of_kind
from tools.benchmark.timing import interleaved, spread

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "FDBPL_VENV": sys.prefix}
    command = ["bash", "scripts/benchmark.sh", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def kept_record() -> dict:
    return json.loads((ROOT / "docs/performance.json").read_text())


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("a folder") / "bench mark"
    ran = bench("tiny", "--output", output, "--device", "cpu")
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "## Floors" in ran.stdout and "Written:" in ran.stdout
    return output


def test_every_repetition_is_kept(measured):
    record = json.loads((measured / "benchmark.json").read_text())
    assert record["device"] == "cpu" and record["environment"]["packages"]["torch"] and record["threads"] >= 1
    step = record["points"][0]
    assert set(step["arms"]) == {"a", "a_half", "a_star", "b", "c", "d", "e"}
    for arm in step["arms"].values():
        assert 1 <= len(arm["seconds"]) <= 3 and min(arm["seconds"]) > 0
        assert arm["first"] > 0
        assert arm["peak_mib"] is None or arm["peak_mib"] >= 0
    assert step["arms"]["a"]["model_mib"] > step["arms"]["d"]["model_mib"] > 0
    assert step["labelling"]["regions"] == step["point"]["batch"]
    assert [point["kind"] for point in record["points"]].count("Step") == 2
    assert sorted(path.name for path in measured.iterdir()) == ["benchmark.json", "table.md"]


def test_the_document_comes_from_the_record(measured, tmp_path):
    output = tmp_path / "PERFORMANCE.md"
    ran = bench("document", measured / "benchmark.json", "--output", output)
    text = output.read_text()
    assert ran.returncode == 0 and text == document(json.loads((measured / "benchmark.json").read_text()))
    assert (measured / "table.md").read_text() in text
    for said in ("random weights", "Where we lose", "What was not measured", "A GPU", "--device cpu"):
        assert said in text
    assert str(ROOT) not in text


def test_the_page_in_the_repository_is_that_of_its_record():
    kept = kept_record()
    assert (ROOT / "docs/PERFORMANCE.md").read_text() == document(kept)
    found = {floor.what: floor.value for floor in floors(kept)}
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{found['(d)/(e), 50 classes']:.2f} times what its text encoding alone takes" in readme


def test_hours_and_rates_of_other_pages_are_those_of_the_record():
    scaling, pipelines = ((ROOT / "docs" / page).read_text() for page in ("SCALING.md", "PIPELINES.md"))
    kept = kept_record()
    region = break_even(kept)["seconds_of_a_region"]
    rate = spread(of_kind(kept, "Generation")["rates"]["generation"])[0]
    assert f"{region:.3f} s a region" in scaling and f"{rate:.1f} regions/s" in scaling
    rows = [line for line in scaling.splitlines() if line.startswith(("| hours", "| 8 processes", "| 64 processes"))]
    for row, (seconds, processes) in zip(rows, product((region, 1 / rate), (1, 8, 64)), strict=True):
        hours = [float(cell.replace(",", "")) for cell in row.split("|")[2:4]]
        assert hours == pytest.approx([count * seconds / 3600 / processes for count in (64e6, 1e9)], rel=5e-3)
    rates = of_kind(kept, "Pipeline")["rates"]["1"].values()
    shown = next(line for line in pipelines.splitlines() if "from docs/PERFORMANCE.md" in line)
    cells = [int(cell.strip(" *")) for cell in shown.split("|")[3:7]]
    assert cells == [round(spread(values)[0]) for values in rates]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("fast",), "expected a profile of quick, full, tiny"),
        (("document",), "expected a benchmark.json behind document"),
        (("document", "pyproject.toml"), "replace it"),
        (("quick", "more"), "expected a profile alone"),
    ],
)
def test_mistakes_are_sentences(arguments, said, tmp_path):
    ran = bench(*arguments, "--output", tmp_path / "out")
    assert ran.returncode == 2 and said in ran.stderr and "Traceback" not in ran.stderr


def step(classes: int, **seconds: float) -> dict:
    return {
        "kind": "Step",
        "point": {"student": "s", "teacher": "t", "classes": classes, "context": 4, "batch": 32},
        "arms": {arm: {"seconds": [value], "peak_mib": 1.0, "model_mib": 1.0} for arm, value in seconds.items()},
        "positions": {"all": 10, "shared": 5},
        "classes_at_once": {},
        "labelling": {"seconds": 64.0, "regions": 32},
    }


def record(*points: dict) -> dict:
    return {"device": "cpu", "profile": "quick", "points": list(points)}


def test_floors_are_ratios_of_medians():
    first = step(50, a=60.0, a_star=30.0, b=13.0, c=2.0, d=1.0, e=0.8)
    first["arms"]["d"]["seconds"] = [0.9, 1.0, 5.0]
    found = {floor.what: floor for floor in floors(record(first, step(500, a=90.0, d=9.0), step(1000, c=80.0, d=70.0)))}
    verdicts = {what: floor.verdict for what, floor in found.items()}
    assert found["(a)/(d), 50 classes"].value == 60 and verdicts["(a)/(d), 50 classes"] == "pass"
    assert found["(a*)/(d), 50 classes"].value == 30 and verdicts["(a*)/(d), 50 classes"] == "falls short"
    assert found["(d)/(e), 50 classes"].value == 1.25 and verdicts["(d)/(e), 50 classes"] == "pass"
    assert verdicts["(b)/(d), 500 classes"] == "not measured"
    many = found["(a)/(slowest of c, d), 1000 classes"]
    assert many.value == 90 / 80 and "500 classes" in many.note and many.verdict == "pass"
    assert verdicts["seconds to train.py's first step"] == "not measured"


def test_a_single_step_is_called_one_and_first_steps_are_compared_with_the_first():
    old = table(record(step(50, a=60.0, d=1.0)))
    assert "| 60.000, one step | 60 |" in old and "first step took" not in old
    new = step(50, a=60.0, d=1.0)
    new["arms"]["a"]["first"], new["arms"]["d"]["first"] = 60.0, 2.0
    new["arms"]["d"]["seconds"] = [1.0, 1.0, 4.0]
    assert "| 1.000 (1.000 to 2.500), 3 steps | 1 |" in table(record(new))
    assert "(d)'s first step took 2.000 s. Over it, the others' first: (a) 30." in table(record(new))


def test_arms_that_were_not_measured_are_named_so():
    text = document({**kept_record(), "points": [step(50, a=60.0, d=1.0), step(500, d=9.0)]})
    compared, _, rest = text.partition("## Floors")
    assert "* (d) FDBPL, features looked up." in compared and "(a, half)" not in compared
    missing = rest.partition("## What was not measured")[2]
    assert "* (a, half) KDPL, teacher in half precision." in missing and "* With 500 classes: (a)." in missing
    assert "benchmark.sh full" in missing and "DALI over the plain DataLoader, 8 regions" in missing


def test_without_dali_the_others_are_measured_and_its_floors_named(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # as if it were not installed
    point = Pipeline(regions=(1, 8), size=32, images=2, rounds=1)
    measured = {"kind": "Pipeline", "point": {}, **measure_pipeline(world, point)}
    assert all(set(rates) == {"plain DataLoader", "torchvision"} for rates in measured["rates"].values())
    for found in (record(measured), record()):
        dali = [floor for floor in floors(found) if floor.what.startswith("DALI over")]
        assert len(dali) == 3 and {floor.verdict for floor in dali} == {"not measured"}
    assert {floor.note for floor in floors(record(measured)) if "DALI" in floor.what} == {"DALI was not installed"}
    assert "(DALI was not installed) | >= 1.3 | - | not measured |" in table(record(measured))


def test_a_bank_pays_for_itself_after_so_many_runs():
    """2 s a region; 800 images in batches of 32 over 50 epochs are 1250 steps of 9 s less."""
    even = break_even(record(step(50, a=10.0, d=1.0)))
    assert even["seconds_saved_by_a_run"] == 1250 * 9
    assert even["runs"] == {50: 800 * 50 * 2 / 11250, 500: 800 * 500 * 2 / 11250}
    assert "after 7.1 runs at 50 regions" in table(record(step(50, a=10.0, d=1.0)))
    assert break_even(record(step(50, d=1.0))) is None


class Sleeper:
    """An arm that notes when it is called."""

    models: list = []  # noqa: RUF012

    def __init__(self, name: str, calls: list):
        self.name, self.calls = name, calls

    def warm_up(self) -> None:
        self.calls.append(f"warm {self.name}")

    def prepare(self) -> None:
        self.calls.append(f"prepare {self.name}")

    def step(self) -> None:
        time.sleep(0.0 if self.name in self.calls else 0.05)  # the first is the slowest
        self.calls.append(self.name)


def test_arms_take_turns():
    calls: list[str] = []
    arms = {name: Sleeper(name, calls) for name in "xy"}
    found = interleaved(arms, seconds=60, most=2, device="cpu", say=lambda *_, **__: None)
    assert calls == ["warm x", "warm y", *["prepare x", "x", "prepare y", "y"] * 2]
    assert all(len(result["seconds"]) == 1 for result in found.values())  # the first tells the memory
    assert all(result["first"] > result["seconds"][0] > 0 for result in found.values())
    calls.clear()
    interleaved(arms, seconds=0, most=5, device="cpu", say=lambda *_, **__: None)
    assert calls.count("x") == calls.count("y") == 1


def test_spread_is_median_and_quartiles():
    assert spread([3.0]) == (3.0, 3.0, 3.0)
    assert spread([1.0, 2.0, 3.0, 4.0, 50.0]) == (3.0, 2.0, 4.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a part of a process's life")
def test_the_peak_of_a_step_is_seen():
    import torch

    with PeakMemory("cpu") as peak:
        torch.ones(64 << 20, dtype=torch.uint8)
    assert 60 < peak.mib < 100
    with PeakMemory("cpu") as peak:
        torch.ones(1 << 20, dtype=torch.uint8)
    assert peak.mib < 30


def test_what_was_measured_is_kept_and_not_mixed_with_another_machine_s(tmp_path):
    call = {"profile": "tiny", "output": tmp_path, "photos": None, "device": "cpu", "command": "c", "hours": 0.0}
    nothing = run(**call)
    assert nothing["missing"] == len(PROFILES["tiny"].points) and not nothing["points"]
    kept = {"kind": "BankBytes", "point": {"name": "bank bytes"}, "regions": 9, "embedding_width": 16}
    kept["bytes"] = {"topk:10": 60.0, "embedding": 50.0}
    (tmp_path / "points" / "bank-bytes.json").write_text(json.dumps(kept))
    continued = run(**call)
    assert continued["missing"] == nothing["missing"] - 1 and continued["points"] == [kept]
    machine = json.loads((tmp_path / "points" / "machine.json").read_text())
    (tmp_path / "points" / "machine.json").write_text(json.dumps({**machine, "threads": 99}))
    with pytest.raises(UserError, match="expected a benchmark begun with the same threads"):
        run(**call)
