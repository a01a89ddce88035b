"""Atomic writing of text, JSON and tensors, and reading of JSON."""

import json
import os
import stat

import pytest
import torch
from safetensors import safe_open

from fdbpl.errors import SystemFailure, UserError
from fdbpl.io import atomic, tensor_files


def test_files_are_complete_with_the_usual_permissions(tmp_path):
    file = tmp_path / "deep" / "file.json"
    atomic.write_json(file, {"accuracy": 1 / 3})
    assert json.loads(file.read_text())["accuracy"] == 1 / 3
    assert [entry.name for entry in file.parent.iterdir()] == ["file.json"]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    file = tmp_path / "file"
    atomic.write_text(file, "old")

    def full_disk(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(SystemFailure, match="the disk is full"):
        atomic.write_text(file, "new")
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match="choose another folder"):
        atomic.write_text(tmp_path / "file" / "below", "text")


def test_tensors_round_trip(tmp_path):
    matrix = torch.arange(6.0).reshape(2, 3).t()
    tensor_files.write_tensors(tmp_path / "t.safetensors", {"m": matrix}, {"what": "a matrix"})
    with safe_open(tmp_path / "t.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("m"), matrix)
        assert file.metadata() == {"what": "a matrix"}


@pytest.mark.parametrize("content", [None, b"{", b"\xff\xfe"])
def test_unreadable_json(tmp_path, content):
    file = tmp_path / "metrics.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.json .*the metrics"):
        atomic.read_json(file, "the metrics")
