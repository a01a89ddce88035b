"""Options of `python -m fdbpl.regions` and of its measurements."""

import re
import shutil
import sys

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.regions.__main__ import main
from fdbpl.regions.bank import RegionBank
from fdbpl.templates import fill_template
from tools import measure_generation
from tools import measure_text_encoder as measure_text

from .conftest import identity_of

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.fixture
def call(monkeypatch, capsys):
    """Return call(main, *words), which returns the exit code and the output."""

    def call(main, *words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def generate(call, photos, weights, tmp_path):
    """Return generate(*words), which generates tmp_path/bank with two regions of each image."""
    words = ("generate", "--root", photos, "--images", photos / "toy", "--bank", tmp_path / "bank", "--per-image", 2,
             "--teacher", weights, "--pipeline", "torchvision")  # fmt: skip
    return lambda *more: call(main, *words, *more)


def test_prompts_equal_those_of_trainers(generate, tmp_path):
    (tmp_path / "names.txt").write_text("wheel_chair\ncat\n")
    code, output = generate("--classnames", tmp_path / "names.txt", "--template", "a {}, a type of {{}}.")
    assert code == 0, output
    (prompts,) = RegionBank.open(tmp_path / "bank").prompt_lists()
    assert prompts == fill_template("a {}, a type of {{}}.", ["wheel_chair", "cat"])
    assert prompts[0] == "a wheel chair, a type of {wheel chair}."


@pytest.mark.parametrize("names", ["cat\ndog\ncat\n", "wheel_chair\ndog\nwheel chair\n"])
def test_duplicate_class_names(generate, tmp_path, names):
    (tmp_path / "names.txt").write_text(names)
    code, output = generate("--classnames", tmp_path / "names.txt")
    assert code == 2 and "names.txt" in output and not (tmp_path / "bank").exists()


def test_precision_and_batch_size(generate, call, photos, tmp_path, monkeypatch, cpu_with):
    cpu_with("AVX512-BF16")
    sizes = []
    encode = type(load_backbone("random:tiny teacher")).encode_image
    monkeypatch.setattr(
        "fdbpl.backbones.Backbone.encode_image", lambda self, images: sizes.append(len(images)) or encode(self, images)
    )
    code, output = generate("--precision", "bf16", "--batch-size", 7)
    assert code == 0 and max(sizes) == 7, output
    assert RegionBank.open(tmp_path / "bank").identity["precision"] == "bf16"
    sizes.clear()
    code, output = call(main, "verify", tmp_path / "bank", "--root", photos, "--sample", 9, "--batch-size", 4)
    assert code == 0 and max(sizes) == 4, output


@pytest.mark.parametrize("words", [("--batch-size", 0), ("--workers", -1), ("--precision", "fp8")])
def test_invalid_options(generate, words):
    code, output = generate(*words)
    assert code == 2 and "Traceback" not in output and str(words[1]) in output


def test_fp16_on_a_cpu(generate):
    code, output = generate("--precision", "fp16", "--device", "cpu")
    assert code == 2 and "--precision fp16 needs a GPU" in output


@without_gpu
def test_the_automatic_precision(generate, tmp_path, cpu_with):
    def stored(*words: object) -> str:
        code, output = generate(*words)
        assert code == 0, output
        return RegionBank.open(tmp_path / "bank").identity.get("precision", "fp32")

    cpu_with("AMX")
    assert stored() == "bf16"
    cpu_with("")
    assert stored("--per-image", 3) == "bf16"  # as the existing regions
    shutil.rmtree(tmp_path / "bank")
    assert stored("--precision", "bf16") == "fp32"
    cpu_with("AMX")
    assert stored("--per-image", 3) == "fp32"


@without_gpu
def test_the_measurement_compares_precisions(call, photos):
    words = ("--images", 2, "--per-image", 3, "--teacher", "random:tiny teacher", "--rounds", 1)
    code, output = call(
        measure_generation.main, photos, *words, "--pipeline", "torchvision", "--precision", "fp32", "bf16"
    )
    assert code == 0, output
    found = re.search(r"bf16 / fp32: teacher [\d.]+ times, .*largest deviation of an embedding ([\d.e-]+)", output)
    assert 0 < float(found[1]) < 0.05


@without_gpu
def test_verification_of_an_fp16_bank_on_a_cpu(make, call, weights, photos, tmp_path):
    teacher = load_backbone(str(weights))  # fp16 encoders differ by less than the tolerance
    make(identity=identity_of(teacher, precision="fp16"), teacher=lambda: teacher)
    code, output = call(main, "verify", tmp_path / "bank", "--root", photos)
    assert code == 0 and "regions agree with the teacher" in output, output


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:x", "gpu"])
def test_missing_devices(generate, call, make, photos, tmp_path, device):
    make()
    for code, output in (
        generate("--device", device, "--bank", tmp_path / "another"),
        call(main, "verify", tmp_path / "bank", "--root", photos, "--device", device),
        call(measure_generation.main, photos, "--device", device),
        call(measure_text.main, "--device", device),
    ):
        assert code == 2 and device in output and "Traceback" not in output
    assert not (tmp_path / "another").exists()


def test_the_default_device_is_the_gpu(generate, monkeypatch):
    devices = []

    def load(name: str, device: str = "cpu", precision: str = "fp32"):
        devices.append(device)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fdbpl.backbones.load_backbone", load)
    assert generate()[0] == 130 and devices == ["cuda"]
