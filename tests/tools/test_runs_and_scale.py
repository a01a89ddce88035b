"""Whole runs and large data sets in the benchmark. No time is compared with anything."""

import json
import re
from dataclasses import asdict
from types import SimpleNamespace
from unittest.mock import MagicMock
from xml.etree import ElementTree

import pytest
import torch

from fdbpl.errors import SystemFailure, UserError
from tools.benchmark import linear_probe
from tools.benchmark.charts import charts, curve
from tools.benchmark.demo_runs import DemoRuns, measure_comparison
from tools.benchmark.page import page, tables
from tools.benchmark.profiles import LINEAR_PROBE, Comparison, ImageNetBank, ScaledStep
from tools.benchmark.projection import Parts, array_hours, measured_parts
from tools.benchmark.run import merge
from tools.benchmark.targets import targets
from tools.benchmark.timing import summary


def measured(point, **result) -> dict:
    return {"kind": type(point).__name__, "point": {**asdict(point), "name": point.name}, **result}


def compared(method: str, dataset: str, generation: float, *runs: tuple) -> dict:
    keys = ("epochs", "seconds", "base", "new")
    runs_of_it = [dict(zip(keys, run, strict=True)) for run in runs]
    return measured(Comparison(method, dataset), generation=generation, runs=runs_of_it)


def scaled(seconds: float, mib: float, **settings: int) -> dict:
    result = {"warm_up": 1.0, "seconds": summary([seconds]), "start_seconds": 6.0, "threads": 2}
    result |= {"peak_mib": mib, "process_mib": mib + 1000}
    return measured(ScaledStep(**settings), **result)


COMPARED = [
    compared(LINEAR_PROBE, "demo", 13.0, (1, 4.0, 70.0, None), (50, 6.0, 84.0, None)),
    compared("CoOp", "demo", 0.0, (2, 5.0, 66.0, 60.0), (10, 10.0, 86.5, 85.0), (30, 22.0, 87.0, 86.0)),
    compared("FDBPL", "demo", 13.0, (2, 4.0, 66.0, 60.0), (30, 8.0, 87.2, 86.4)),
    compared("FDBPL", "demo_hard", 14.0, (30, 8.0, 70.0, 60.0)),
]
SCALED = [
    scaled(1.0, 3000.0, classes=100),
    scaled(9.0, 8192.0, classes=1000),
    scaled(12.0, 4096.0, classes=1000, chunk=250),
    scaled(2.0, 3000.0, classes=100, processes=2),
    measured(ImageNetBank(), open_seconds=2.0, bytes=3e9, milliseconds=summary([0.5])),
    {"kind": "GenerationSample", "point": {"teacher": "t", "images": 2, "per_image": 8},
     "rates": {"generation": summary([2.0])}},
]  # fmt: skip


@pytest.fixture
def record() -> dict:
    machine = {"processor": "p", "gpu": None, "system": "s"}
    environment = {"machine": machine, "packages": {}, "code": {"commit": "c", "modified": False}, "python": "3"}
    return {
        "environment": environment, "photographs": False, "threads": 2, "memory": "m", "date": "d", "command": "one",
        "device": "cpu", "profile": "runs", "missing": 1, "points": COMPARED,
    }  # fmt: skip


def test_comparison_trains_with_each_number_of_epochs_and_tests_new_classes(inputs, monkeypatch):
    commands = []

    def finish(runs: DemoRuns, trainer: str, output: str, *flags: str, **keys) -> float:
        commands.append((trainer, output, flags[:1], keys))
        (runs.folder / output).mkdir()
        (runs.folder / output / "metrics.json").write_text(json.dumps({"accuracy": len(commands)}))
        return 2.0

    monkeypatch.setattr(DemoRuns, "finish", finish)
    found = measure_comparison(inputs, Comparison("CoOp", epochs=(2, 30)))
    assert found["generation"] == 0 and [run["epochs"] for run in found["runs"]] == [2, 30]
    assert found["runs"][1] == {"epochs": 30, "seconds": 2.0, "base": 4, "new": 5}
    assert commands[1][3] == {"OPTIM__MAX_EPOCH": 2}
    assert commands[2][2:] == (("--eval-only",), {"DATASET__SUBSAMPLE_CLASSES": "new"})
    commands.clear()
    found = measure_comparison(inputs, Comparison(LINEAR_PROBE, epochs=(1,)))
    assert found["generation"] == 2.0 and found["runs"][0]["new"] is None
    assert [flags for _, _, flags, _ in commands] == [("--no-train",), ("--generate-regions",), ()]


@pytest.mark.slow
def test_runs_on_the_demo(tmp_path):
    demo = DemoRuns(tmp_path, tmp_path / "data", config="demo_vit")
    few = {"REGIONS__PER_IMAGE": 1, "OPTIM__MAX_EPOCH": 1}
    assert demo.finish("FDBPL", "bank", "--generate-regions", **few) > 0
    for method in ("FDBPL", LINEAR_PROBE):
        assert demo.finish(method, method, **few) > 0 and 50 < demo.accuracy(method) < 90
    with pytest.raises(SystemFailure, match=r"CoOp failed on demo: [^$]*NOTHING"):
        demo.finish("CoOp", "broken", NOTHING=1)


def test_probe_learns_the_labels_of_the_regions(monkeypatch):
    labels, read = torch.tensor([0, 2, 1, 0, 1, 2]), []

    def student_features(image: torch.Tensor, region: torch.Tensor) -> torch.Tensor:
        read.extend(zip(image.tolist(), region.tolist(), strict=True))
        return torch.eye(3)[labels[image]]

    items = [SimpleNamespace(label=label) for label in labels.tolist()]
    trainer = MagicMock(dm=SimpleNamespace(dataset=SimpleNamespace(train_x=items)))
    trainer.supervision.lookup.student_features = student_features
    tested = [(torch.eye(3)[:2], torch.tensor([0, 1])), (torch.eye(3)[1:], torch.tensor([1, 0]))]  # the last is wrong
    monkeypatch.setattr(linear_probe, "iterate_features", lambda *_: iter(tested))
    assert linear_probe.probe(trainer, regions=2) == 75
    assert sorted(read) == [(image, region) for image in range(6) for region in range(2)]


def test_projection():
    parts = Parts(region=0.5, step=2.0, start=10.0, batch=32)
    bank, training = array_hours(parts, jobs=7)  # 16,000 images: 2286 for a job; 3 trainings of 50 x 500 steps
    assert bank == pytest.approx((10 + 2286 * 50 * 0.5) / 3600)
    assert training == pytest.approx((10 + 25_000 * 2.0) / 3600)
    assert array_hours(parts, jobs=2)[1] == pytest.approx(2 * training)


def test_projection_from_a_record(record):
    assert measured_parts(record) is None
    assert measured_parts({**record, "points": SCALED}) == Parts(region=0.5, step=9.0, start=8.0, batch=32)


def test_tables_of_whole_runs(record):
    text = tables(record)
    assert text.startswith("## Whole runs")
    assert "to a base accuracy of 86.2 |" in text  # one point below the best
    assert "| linear probe | 50 | 6.0 | 19.0 | 84.00 | - | not reached |" in text
    assert "| CoOp | 30 | 22.0 | - | 87.00 | 86.00 | 10.0 |" in text
    assert "| FDBPL | 30 | 8.0 | 21.0 | 87.20 | 86.40 | 21.0 |" in text


def test_page_of_several_profiles(record):
    later = {**record["environment"], "code": {"commit": "b" * 40, "modified": True}}
    scale = {**record, "command": "two", "environment": later, "profile": "scale", "points": SCALED}
    text = page(merge([record, scale]))
    code = (record["environment"]["code"]["commit"] or "unknown")[:12]
    assert f"`one`, d, code {code}" in text and f"`two`, d, code {'b' * 12} (modified)" in text
    assert text.count("![") == 2
    assert "| 1000 | 4 | 32 | 250 | 1 | 2 | 12.000 (12.000 to 12.000) | 4,096 | 5,096 |" in text
    assert "800,000 regions, 3 trainings" in text
    elsewhere = {**record, "command": "elsewhere", "threads": 4}
    with pytest.raises(UserError, match=r"one.*elsewhere"):
        merge([record, elsewhere])


def test_memory_targets(record):
    found = {target.title: target for target in targets({**record, "points": SCALED})}
    what = "GiB of a step in a process of its own, 1000 classes, two prompt spaces"
    assert found[what].value == 8.0 and found[f"{what} (MODEL.TEXT_CHUNK 250)"].value == 4.0


def test_curve_varies_one_setting():
    assert [point["point"]["classes"] for point in curve(SCALED[:4], "classes")] == [100, 1000]
    assert [point["point"]["processes"] for point in curve(SCALED[:4], "processes")] == [1, 2]


def test_charts_are_files_of_their_own(record):
    drawn = charts({**record, "points": [*COMPARED, *SCALED]})
    assert list(drawn) == ["performance-runs.svg", "performance-scale.svg"]
    for svg in drawn.values():
        assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
        assert all("fill: var(" in text for text in re.findall(r"<text[^>]*>", svg))  # not black on a dark screen
        assert set(re.findall(r"var\((--[\w-]+)\)", svg)) <= set(re.findall(r"(--[\w-]+):", svg))
    assert "FDBPL, bank included" in drawn["performance-runs.svg"]
    assert charts({**record, "points": []}) == {}
