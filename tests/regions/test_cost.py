"""The cost record of a bank."""

import json
import time
from types import SimpleNamespace

import pytest

from fdbpl.errors import UserError
from fdbpl.regions import generation
from fdbpl.regions.cost import CostRecorder, read_cost


def test_calls_add_up(make, student, tmp_path):
    begin = time.perf_counter()
    make(per_image=4)
    first = read_cost(tmp_path / "bank")
    assert (first["regions"], first["student_features"], first["runs"]) == (12 * 4, 0, 1)
    assert 0 < first["seconds"] <= time.perf_counter() - begin
    make(per_image=4)
    assert read_cost(tmp_path / "bank") == first
    make(per_image=6, student=lambda: student)  # two more regions of each, and features of the old and the new ones
    second = read_cost(tmp_path / "bank")
    assert (second["regions"], second["student_features"], second["runs"]) == (12 * 6, 12 * 6, 2)
    assert second["seconds"] > first["seconds"]


def test_only_one_of_several_processes_is_timed(make, process, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "REGIONS_PER_SHARD", 8)
    seconds = []
    for rank in (1, 0):
        process(rank, 2)
        make(per_image=4)
        seconds.append(read_cost(tmp_path / "bank")["seconds"])
    cost = read_cost(tmp_path / "bank")
    assert seconds[0] == 0 < seconds[1] and cost["regions"] == 12 * 4 and cost["runs"] == 1


def test_a_broken_record_stops_readers_but_not_generation(make, tmp_path):
    (tmp_path / "bank").mkdir()
    for broken in ("{", "[1]", '{"seconds": "long"}'):
        (tmp_path / "bank" / "cost.json").write_text(broken)
        with pytest.raises(UserError, match=r"cost\.json"):
            read_cost(tmp_path / "bank")
    make(per_image=2)
    assert json.loads((tmp_path / "bank" / "cost.json").read_text())["regions"] == 24


def test_each_record_counts_the_seconds_since_the_last_one(tmp_path, monkeypatch):
    now = iter([100.0, 103.0, 104.0])
    monkeypatch.setattr("fdbpl.regions.cost.time", SimpleNamespace(perf_counter=lambda: next(now)))
    cost = CostRecorder(tmp_path)
    cost.add(1, 0)
    assert read_cost(tmp_path)["seconds"] == 3.0
    cost.add(0, 1)
    assert read_cost(tmp_path)["seconds"] == 4.0
