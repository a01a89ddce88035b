"""The check of a GPU on a stand-in for CUDA: stages, failures, resumption and the page."""

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from unittest.mock import MagicMock

import pytest
import torch

from fdbpl.errors import UserError
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from tools.gpu_check import collectives, decoding, models
from tools.gpu_check.__main__ import main
from tools.gpu_check.run import STAGES, failures, run
from tools.gpu_check.setup import TINY

QUICK = replace(TINY, classes=(5,), precisions=("fp32", "fp16"))


@pytest.fixture
def without_dali(monkeypatch):
    for module in (decoding, models, "tools.measure_pipelines", "fdbpl.pipelines"):
        name = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{name}.dali_installed", lambda: False)


@pytest.fixture
def graphs(monkeypatch):
    """Stand-ins for streams and CUDA graphs: a capture runs its operations, a replay does nothing."""
    for name in ("Stream", "current_stream", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda _: nullcontext())


def test_a_rehearsal(cuda, graphs, without_dali, tmp_path):
    names = ["resize", "dali", "decoding", "steps", "graph", "generation"]
    record = run(tmp_path, names, QUICK, "the command")
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == record
    assert cuda.problems == []
    stages = record["stages"]
    assert list(stages) == names and failures(record) == ["dali"]
    assert "DALI is not installed" in stages["dali"]["failed"]
    assert [row["largest"] for row in stages["resize"]["rows"]] == [pytest.approx(1, abs=1)] * 2
    rates = [row["regions/s"]["median"] for row in stages["decoding"]["rows"]]
    assert len(rates) == 2 * len(QUICK.regions) and min(rates) > 0
    cases = [(row["method"], row["classes"], row["precision"]) for row in stages["steps"]["rows"]]
    assert cases == list(product(QUICK.methods, QUICK.classes, QUICK.precisions))
    assert all(
        row["ms"]["median"] > 0 and row["peak MiB"] == 0 for row in stages["steps"]["rows"]
    )  # no memory of a GPU
    assert [row["largest relative deviation of gradients"] for row in stages["graph"]["rows"]] == [0, 0]
    assert [row["precision"] for row in stages["generation"]["rows"]] == ["fp32", "TF32", "fp16", "bf16"]
    assert all(row["generation, regions/s"]["median"] > 0 for row in stages["generation"]["rows"])
    assert not torch.backends.cuda.matmul.allow_tf32

    page = (tmp_path / "gpu_check.md").read_text()
    assert "| steps | passed | " in page and "| dali | failed: NVIDIA" in page
    assert "| method | classes | precision | ms | peak MiB |" in page and str(tmp_path) not in page


@pytest.mark.parametrize("late", [False, True])
def test_pixels_of_a_later_image_are_found(late, cuda, tmp_path, monkeypatch):
    class Dali(TorchvisionPipeline):
        """A pipeline which returns the pixels of the next image if `late`."""

        def __init__(self, root, size, batch_size, device, decode="roi", dali_device="cpu"):
            super().__init__(root, size, batch_size, device)

        def __call__(self, requests):
            for rows, images in super().__call__(requests):
                yield rows, images.roll(-1, 0) if late else images

    monkeypatch.setattr(decoding, "DaliPipeline", Dali)
    monkeypatch.setattr(decoding, "dali_installed", lambda: True)
    record = run(tmp_path, ["dali"], TINY, "c")
    assert failures(record) == ["dali"] * late
    for row in record["stages"]["dali"]["rows"][:2]:
        assert row["largest"] == (4 * (decoding.DALI_BATCH - 1) if late else 0)
        assert late == ("60 of 60 images have the pixels of another one" in row.get("failed", ""))


def test_the_command(cuda, without_dali, tmp_path, monkeypatch, capsys):
    output = tmp_path / "a check"
    monkeypatch.setattr(sys, "argv", ["gpu_check", str(output), "resize", "--tiny"])
    main()
    assert "Written" in capsys.readouterr().out and (output / "gpu_check.md").is_file()
    monkeypatch.setattr(sys, "argv", ["gpu_check", str(output), "dali", "--tiny"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1 and capsys.readouterr().err == "Failed: dali\n"


def test_a_check_resumes_with_missing_and_failed_stages(tmp_path, monkeypatch):
    calls = []

    def stage(name, result):
        def stand_in(setup):
            calls.append(name)
            if isinstance(result, BaseException):
                raise result
            return [{"value": result}]

        monkeypatch.setitem(STAGES, name, stand_in)

    for number, name in enumerate(STAGES):
        stage(name, number)
    stage("nccl", RuntimeError("no such\ndevice"))
    stage("steps", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [], TINY, "c")
    stored = json.loads((tmp_path / "gpu_check.json").read_text())
    assert list(stored["stages"]) == list(STAGES)[: list(STAGES).index("steps")] and failures(stored) == ["nccl"]
    assert stored["stages"]["nccl"]["failed"] == "RuntimeError: no such device"

    calls.clear()
    stage("nccl", 1)
    stage("steps", 2.5)
    assert failures(run(tmp_path, [], TINY, "c")) == []
    assert calls == ["nccl", "steps", "graph", "generation"]
    calls.clear()
    run(tmp_path, ["graph"], TINY, "c")
    assert calls == ["graph"]

    with pytest.raises(UserError, match="other sizes"):
        run(tmp_path, [], QUICK, "c")
    with pytest.raises(UserError, match="no stage 'speed'.*environment, tests"):
        run(tmp_path, ["speed"], TINY, "c")


def test_wrong_pixels_and_failed_rows_are_failures():
    record = {
        "stages": {"resize": {"rows": [{"largest": 1}, {"largest": 9, "failed": "too large"}]}, "nccl": {"rows": []}}
    }
    assert failures(record) == ["resize"]


def test_collectives_with_gloo():
    assert collectives.run("gloo")["s"] >= 0
    assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_command_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_check", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.count("\n") == 1 and "needs a CUDA GPU" in message
    assert not list(tmp_path.iterdir())
