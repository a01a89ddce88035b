"""The benchmark on tiny models. No time is compared with anything."""

import json
import os
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
import torch

from fdbpl.errors import UserError
from tools.benchmark import timing
from tools.benchmark.measurements import measure_pipeline
from tools.benchmark.memory import PeakMemory
from tools.benchmark.page import page
from tools.benchmark.profiles import PROFILES, Pipeline
from tools.benchmark.run import run
from tools.benchmark.synthetic_inputs import SyntheticInputs
from tools.benchmark.targets import break_even, of_kind, seconds_of_a_region, targets
from tools.benchmark.timing import summary

ROOT = Path(__file__).resolve().parents[2]


def bench(*arguments: object) -> subprocess.CompletedProcess:
    environment = {**os.environ, "FDBPL_VENV": sys.prefix}
    command = ["bash", "scripts/benchmark.sh", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def committed_record() -> dict:
    return json.loads((ROOT / "docs/performance.json").read_text())


@pytest.mark.slow
def test_the_tiny_profile_and_its_page(tmp_path):
    output = tmp_path / "bench mark"
    ran = bench("tiny", "--output", output, "--device", "cpu")
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "## Performance targets" in ran.stdout
    record = json.loads((output / "benchmark.json").read_text())
    assert record["device"] == "cpu" and record["environment"]["packages"]["torch"] and record["threads"] >= 1
    step = record["points"][0]
    assert set(step["variants"]) == {"a", "a_half", "a_star", "b", "c", "d", "e"}
    for result in step["variants"].values():
        assert result["warm_up"] > 0 and result["seconds"]["median"] > 0 and result["seconds"]["count"] >= 2
    assert step["variants"]["a"]["model_mib"] > step["variants"]["d"]["model_mib"] > 0
    assert step["labelling"]["regions"] == step["point"]["batch"]
    assert sorted(path.name for path in output.iterdir()) == ["benchmark.json", "tables.md"]

    document = tmp_path / "PERFORMANCE.md"
    ran = bench("document", output / "benchmark.json", "--output", document)
    assert ran.returncode == 0 and document.read_text() == page(record)
    steps = (output / "tables.md").read_text().partition("\n## Training step")[2]
    assert steps and steps in document.read_text() and str(ROOT) not in document.read_text()


def test_the_page_in_the_repository_comes_from_the_committed_record():
    record = committed_record()
    assert (ROOT / "docs/PERFORMANCE.md").read_text() == page(record)
    found = {target.what: target.value for target in targets(record)}
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"{found['(d)/(e), 50 classes']:.2f} times what its text" in readme


def test_figures_of_other_pages_come_from_the_committed_record():
    scaling, pipelines = ((ROOT / "docs" / name).read_text() for name in ("SCALING.md", "PIPELINES.md"))
    record = committed_record()
    region = seconds_of_a_region(record)
    rate = of_kind(record, "Generation")["rates"]["generation"]["median"]
    rows = [line for line in scaling.splitlines() if line.startswith(("| hours", "| 8 processes", "| 64 processes"))]
    for row, (seconds, processes) in zip(rows, product((region, 1 / rate), (1, 8, 64)), strict=True):
        hours = [float(cell.replace(",", "")) for cell in row.split("|")[2:4]]
        assert hours == pytest.approx([count * seconds / 3600 / processes for count in (64e6, 1e9)], rel=5e-3)
    rates = [round(rate["median"]) for rate in of_kind(record, "Pipeline")["rates"]["1"].values()]
    row = next(line for line in pipelines.splitlines() if "PERFORMANCE.md" in line and line.count("|") > 5)
    assert [int(cell.strip(" *")) for cell in row.split("|")[3:7]] == rates


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fast",), ["'fast'", "quick, full, tiny"]),
        (("document",), ["benchmark.json"]),
        (("document", "pyproject.toml"), ["pyproject.toml"]),
        (("quick", "more"), ["'more'"]),
    ],
)
def test_bad_arguments(arguments, words, tmp_path, monkeypatch, capsys):
    from tools.benchmark.__main__ import main

    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--output", str(tmp_path / "out")])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and all(word in message for word in words)


def step(classes: int, **seconds: float) -> dict:
    results = {
        name: {"warm_up": 2 * value, "seconds": summary([value]), "peak_mib": 1.0, "model_mib": 1.0}
        for name, value in seconds.items()
    }
    return {
        "kind": "Step",
        "point": {"student": "s", "teacher": "t", "classes": classes, "context": 4, "batch": 32},
        "variants": results,
        "positions": {"all": 10, "shared": 5},
        "classes_at_once": {},
        "labelling": {"seconds": 64.0, "regions": 32},
    }


def record(*points: dict) -> dict:
    return {"device": "cpu", "profile": "quick", "points": list(points)}


def test_targets_are_ratios_of_medians():
    measured = record(step(50, a=54.0, a_star=27.0, b=11.7, c=1.8, d=0.9, e=0.8), step(1000, d=80.0))
    found = {target.what: target for target in targets(measured)}
    expected = {"(a)/(d), 50 classes": 60, "(a*)/(d), 50 classes": 30, "(d)/(e), 50 classes": 1.125}
    assert {what: found[what].value for what in expected} == expected
    assert [found[what].verdict for what in expected] == ["met", "missed", "met"]
    assert found["(b)/(d), 500 classes"].verdict == "not measured"


def test_the_page_names_what_was_not_measured():
    text = page({**committed_record(), "points": [step(50, a=60.0, d=1.0), step(500, d=9.0)]})
    compared, _, rest = text.partition("## Training step")
    assert "* (d) " in compared and "(a, half)" not in compared
    missing = rest.partition("## Not measured")[2]
    assert "* (a, half) " in missing and "* With 500 classes: (a)." in missing


def test_inputs_are_independent(inputs, tmp_path):
    fewer = SyntheticInputs(tmp_path, images=2, classes=5)
    for made, count in ((inputs, 4), (fewer, 2)):
        trainer = made.build_trainer(made.config("FDBPL", "tiny", "tiny teacher", 3, count))
        assert len(trainer.dm.dataset.train_x) == count and len(trainer.dm.dataset.test) == len(made.paths)


def test_without_dali_the_other_pipelines_are_measured(inputs, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)  # as if it were not installed
    found = measure_pipeline(inputs, Pipeline(regions=(1, 8), size=32, images=2, rounds=1))
    assert all(set(rates) == {"plain DataLoader", "torchvision"} for rates in found["rates"].values())
    dali = [t for t in targets(record({"kind": "Pipeline", "point": {}, **found})) if t.what.startswith("DALI over")]
    assert len(dali) == 3 and {target.verdict for target in dali} == {"not measured"}


def test_break_even():
    """2 s per region; 800 images in batches of 32 over 50 epochs are 1250 steps of 9 s less."""
    assert break_even(record(step(50, a=10.0, d=1.0))) == {50: 800 * 50 * 2 / 11250, 500: 800 * 500 * 2 / 11250}
    assert break_even(record(step(50, d=1.0))) is None


class Sleeper:
    """A variant that records its calls."""

    models: list = []  # noqa: RUF012

    def __init__(self, name: str, calls: list, seconds: float):
        self.name, self.calls, self.seconds = name, calls, seconds

    def prepare(self) -> None:
        self.calls.append(f"prepare {self.name}")

    def step(self) -> None:
        time.sleep(self.seconds if self.name in self.calls else 0.3)  # the first step is the slowest
        self.calls.append(self.name)


def test_all_variants_are_timed_alike_after_a_warm_up(monkeypatch):
    monkeypatch.setattr(timing, "ROUND_S", 0.1)
    calls: list[str] = []
    variants = {"x": Sleeper("x", calls, 0.15), "y": Sleeper("y", calls, 0.03)}
    found = timing.interleaved(variants, rounds=3, device="cpu", say=lambda *_, **__: None)
    steps = [name for name in calls if len(name) == 1]
    assert steps[:3] == ["x", "y", "x"] and calls.count("prepare x") == calls.count("x") == 4
    assert found["x"]["seconds"]["count"] == 3 and 3 < found["y"]["seconds"]["count"] <= 10  # a fast one repeats
    assert all(result["warm_up"] > result["seconds"]["upper"] > 0 for result in found.values())


def test_summary():
    assert summary([3.0]) == {"median": 3.0, "lower": 3.0, "upper": 3.0, "count": 1}
    assert summary([1.0, 2.0, 3.0, 4.0, 50.0]) == {"median": 3.0, "lower": 2.0, "upper": 4.0, "count": 5}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak memory of a block")
def test_peak_memory_of_a_block():
    with PeakMemory("cpu") as peak:
        torch.ones(64 << 20, dtype=torch.uint8)
    assert 60 < peak.mib < 100
    with PeakMemory("cpu") as peak:
        torch.ones(1 << 20, dtype=torch.uint8)
    assert peak.mib < 30


def test_an_interrupted_benchmark_resumes_only_on_the_same_machine(tmp_path):
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
    with pytest.raises(UserError, match="threads"):
        run(**call)
