"""Pre-training of the demo models with a thousandth of its steps."""

import subprocess

import pytest
import torch

from fdbpl.backbones import demo
from tools.demo_pretraining import __main__ as pretrain


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    arguments = ["--output", str(folder), "--scratch", str(folder / "scratch"), "--steps", "0.001"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "report", lambda *_: "")  # takes longer than the training
        for which in ("rn-student", "vit-student"):
            patch.setattr("sys.argv", ["pretrain", which, *arguments])
            pretrain.main()
    return folder


def test_weights_are_loaded_by_hash(folder, monkeypatch):
    monkeypatch.setattr(demo, "WEIGHTS", folder)
    demo.sha256.cache_clear()
    try:
        resnet, vit = (demo.load_state_dict(which) for which in ("rn-student", "vit-student"))
    finally:
        demo.sha256.cache_clear()
    assert torch.isfinite(resnet["visual.conv1.weight"]).all()
    assert "visual.layer1.0.conv1.weight" in resnet
    assert vit["visual.conv1.weight"].shape == (128, 3, 8, 8)
    text = [key for key in resnet if not key.startswith("visual.")]
    assert all(torch.equal(resnet[key], vit[key]) for key in text)  # both students share the text tower
    assert not list((folder / "scratch").glob("*.pt"))  # checkpoints to resume from are deleted


def test_checksums_have_the_format_of_sha256sum(folder):
    result = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.count("OK") == 2
