"""The record of the decoder in a bank, and the GPU that images are decoded for."""

import json
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from fdbpl.errors import UserError
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from fdbpl.regions import generation
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.inspection import inspect
from fdbpl.regions.shard_reader import read_header
from fdbpl.regions.verify import Sample, verify_bank


def rewritten(file, **changes) -> None:
    """Change keys of a shard's header; a value of None removes the key."""
    described = {**read_header(file).shard, **changes}
    described = {key: value for key, value in described.items() if value is not None}
    save_file(load_file(file), file, {"shard": json.dumps(described)})


def test_a_bank_records_its_decoder(make, student, tmp_path, monkeypatch, capsys):
    make(student=lambda: student)
    bank = RegionBank.open(tmp_path / "bank")
    (shard,) = bank.shards()
    assert shard.decoder == "cpu"
    assert bank.read_features_header(shard, (student.name, student.sha256)).shard["decoder"] == "cpu"
    monkeypatch.setattr(TorchvisionPipeline, "decoder", "nvjpeg")
    make(per_image=6)
    inspect(tmp_path / "bank")
    assert "decoded by       cpu, nvjpeg" in capsys.readouterr().out


def test_an_older_bank_without_decoder_is_read_and_extended(make, images, tmp_path, capsys):
    make()
    (shard,) = RegionBank.open(tmp_path / "bank").shards()
    rewritten(shard.file, decoder=None)
    assert make(per_image=6).regions_made == 2 * len(images)
    inspect(tmp_path / "bank")
    assert "decoded by       cpu, not recorded" in capsys.readouterr().out


def test_an_unknown_decoder(make, photos, tmp_path):
    make()
    (shard,) = RegionBank.open(tmp_path / "bank").shards()
    rewritten(shard.file, decoder="gpu")
    with pytest.raises(UserError, match="decoder 'gpu'"):
        RegionBank.open(tmp_path / "bank").shards()
    (finding,) = verify_bank(tmp_path / "bank", Sample(photos))
    assert finding.mark == "WRONG"


def test_images_are_decoded_for_the_gpu_of_the_process(make, monkeypatch):
    """Regions are decoded in a thread, whose current GPU is another one."""
    places, main = [], threading.get_ident()

    def build_pipeline(backend, root, size, batch_size, device, *others):
        assert threading.get_ident() != main
        places.append(torch.device(device))
        raise KeyboardInterrupt

    monkeypatch.setattr(generation, "build_pipeline", build_pipeline)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: int(threading.get_ident() == main))
    with pytest.raises(KeyboardInterrupt):
        make(device="cuda")
    assert places == [torch.device("cuda", 1)]
