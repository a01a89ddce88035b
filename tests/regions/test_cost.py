"""What a bank has cost is kept beside it, and never in the way of labelling."""

import json
import time

import pytest

from fdbpl.errors import UserError
from fdbpl.regions import generation
from fdbpl.regions.cost import Cost, read_cost


def test_calls_add_up_and_nothing_made_costs_nothing(make, student, tmp_path):
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


def test_of_processes_side_by_side_one_tells_the_time(make, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(generation, "REGIONS_PER_SHARD", 8)
    seconds = []
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        make(per_image=4)
        seconds.append(read_cost(tmp_path / "bank")["seconds"])
    cost = read_cost(tmp_path / "bank")
    assert seconds[0] == 0 < seconds[1] and cost["regions"] == 12 * 4 and cost["runs"] == 1


def test_a_broken_record_is_a_sentence_for_readers_and_no_hindrance_for_labelling(make, tmp_path):
    (tmp_path / "bank").mkdir()
    for broken in ("{", "[1]", '{"seconds": "long"}'):
        (tmp_path / "bank" / "cost.json").write_text(broken)
        with pytest.raises(UserError, match=r"cost\.json"):
            read_cost(tmp_path / "bank")
    make(per_image=2)
    assert json.loads((tmp_path / "bank" / "cost.json").read_text())["regions"] == 24


def test_the_clock_starts_again_after_each_record(tmp_path, monkeypatch):
    now = iter([100.0, 103.0, 104.0])
    monkeypatch.setattr("fdbpl.regions.cost.time.perf_counter", lambda: next(now))
    cost = Cost(tmp_path)
    cost.add(1, 0)
    assert read_cost(tmp_path)["seconds"] == 3.0
    cost.add(0, 1)
    assert read_cost(tmp_path)["seconds"] == 4.0
