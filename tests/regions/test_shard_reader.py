"""Random access to rows of many files, with few of them open, and errors for files that changed."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fdbpl.errors import UserError
from fdbpl.regions import generation
from fdbpl.regions.lookup import RegionLookup
from fdbpl.regions.shard_reader import ShardReader, read_header


@pytest.fixture
def files(tmp_path):
    """Nine files of five to thirteen rows."""
    torch.manual_seed(0)
    found = [tmp_path / f"{number}.safetensors" for number in range(9)]
    for number, file in enumerate(found):
        rows = 5 + number
        tensors = {"half": torch.randn(rows, 3).half(), "flag": torch.rand(rows) < 0.5, "box": torch.rand(rows, 4)}
        save_file(tensors, file, {"shard": "{}"})
    return found


def open_rows(files) -> ShardReader:
    return ShardReader(files, [read_header(file).tensors for file in files])


@pytest.mark.parametrize("descriptors", [2, 100])
def test_rows_equal_those_of_safetensors(files, descriptors):
    rows = open_rows(files)
    rows._max_open = descriptors
    random = np.random.default_rng(0)
    expected = [load_file(file) for file in files]
    for count in (1, 4, 200, 0):
        file = random.integers(9, size=count)
        row = random.integers(5 + file)
        for name, kind in (("half", torch.float16), ("flag", torch.bool), ("box", torch.float32)):
            found = rows.read(name, file, row)
            whole = [expected[f][name][r] for f, r in zip(file, row, strict=True)]
            assert found.dtype == kind and len(found) == count
            assert not count or torch.equal(found, torch.stack(whole))


def test_few_files_are_open_at_a_time_and_none_at_the_end(files):
    before = len(os.listdir("/proc/self/fd"))
    rows = open_rows(files)
    rows._max_open = 3
    rows.read("box", np.arange(9), np.zeros(9, int))
    assert len(os.listdir("/proc/self/fd")) == before + 3
    del rows
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_that_change_after_opening(files):
    rows = open_rows(files)
    files[2].write_bytes(files[2].read_bytes()[:-20])
    files[3].unlink()
    with pytest.raises(UserError, match="2.safetensors was truncated"):
        rows.read("half", np.array([2] * 7), np.arange(7))
    with pytest.raises(UserError, match="3.safetensors, a file of the region bank .No such file"):
        rows.read("half", np.array([3]), np.array([0]))


@pytest.mark.parametrize("content", [b"", b"\x10", b"\xff" * 30, (2).to_bytes(8, "little") + b"[]",
                                     (2).to_bytes(8, "little") + b"{}"])  # fmt: skip
def test_invalid_files_are_named(tmp_path, content):
    file = tmp_path / "other.safetensors"
    file.write_bytes(content)
    with pytest.raises(UserError, match="Broken file of a region bank: .*other.safetensors"):
        read_header(file)


def test_files_of_two_banks(files, tmp_path):
    save_file({"half": torch.zeros(5, 8)}, tmp_path / "wide.safetensors", {"shard": "{}"})
    with pytest.raises(UserError, match="wide.safetensors belongs to another region bank"):
        open_rows([*files, tmp_path / "wide.safetensors"])


def test_regions_of_an_image_in_several_files(make, images, tmp_path, monkeypatch):
    """A bank that grew in steps yields the same as one that was generated at once."""
    monkeypatch.setattr(generation, "REGIONS_PER_SHARD", 12)
    for few, per_image in ((images[:5], 2), (images[3:9], 3), (images[:2], 5), (images[8:], 6), (images, 7)):
        make(images=few, per_image=per_image)
    make(bank=tmp_path / "whole", per_image=7)
    grown, whole = (RegionLookup(tmp_path / name, images[::-1], 7) for name in ("bank", "whole"))
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(7), indexing="ij"), -1).reshape(-1, 2)
    np.random.default_rng(0).shuffle(grid)
    image, region = torch.from_numpy(grid).T
    assert torch.equal(grown.boxes(image, region), whole.boxes(image, region))
    found, expected = (lookup.embeddings(image, region) for lookup in (grown, whole))
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    with pytest.raises(IndexError):
        whole.boxes(np.array([0]), np.array([7]))


def test_an_epoch_does_not_depend_on_the_chunk_size(monkeypatch):
    from fdbpl import crops
    from fdbpl.crops import sample_regions

    whole = sample_regions(100, 7, 9, 3)
    monkeypatch.setattr(crops, "CHUNK", 13)
    assert all(map(np.array_equal, sample_regions(100, 7, 9, 3), whole))
    assert len(set(whole[1].tolist())) > 1
