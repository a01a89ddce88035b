"""Options of `python -m fdbpl.regions` and of its measurements."""

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
    """call(main, words ...) -> exit code and output."""

    def call(main, *words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


@pytest.fixture
def generate(call, photos, weights, tmp_path):
    """generate(words ...): generate tmp_path/bank with two regions of each image."""
    words = ("generate", "--root", photos, "--images", photos / "toy", "--bank", tmp_path / "bank", "--per-image", 2,
             "--teacher", weights, "--pipeline", "torchvision")  # fmt: skip
    return lambda *more: call(main, *words, *more)


def test_prompts_are_stored_as_trainers_ask_for_them(generate, tmp_path):
    (tmp_path / "names.txt").write_text("wheel_chair\ncat\n")
    code, said = generate("--classnames", tmp_path / "names.txt", "--template", "a {}, a type of {{}}.")
    assert code == 0, said
    (prompts,) = RegionBank.open(tmp_path / "bank").prompt_lists()
    assert prompts == fill_template("a {}, a type of {{}}.", ["wheel_chair", "cat"])
    assert prompts[0] == "a wheel chair, a type of {wheel chair}."


@pytest.mark.parametrize("names", ["cat\ndog\ncat\n", "wheel_chair\ndog\nwheel chair\n"])
def test_a_class_that_is_named_twice_is_refused(generate, tmp_path, names):
    (tmp_path / "names.txt").write_text(names)
    code, said = generate("--classnames", tmp_path / "names.txt")
    assert code == 2 and "names.txt" in said and not (tmp_path / "bank").exists()


def test_precision_and_batch_size(generate, call, photos, tmp_path, monkeypatch):
    sizes = []
    encode = type(load_backbone("random:tiny teacher")).encode_image
    monkeypatch.setattr(
        "fdbpl.backbones.Backbone.encode_image", lambda self, images: sizes.append(len(images)) or encode(self, images)
    )
    code, said = generate("--precision", "bf16", "--batch-size", 7)
    assert code == 0 and max(sizes) == 7, said
    assert RegionBank.open(tmp_path / "bank").identity["precision"] == "bf16"
    sizes.clear()
    code, said = call(main, "verify", tmp_path / "bank", "--root", photos, "--sample", 9, "--batch-size", 4)
    assert code == 0 and max(sizes) == 4, said


@pytest.mark.parametrize("words", [("--batch-size", 0), ("--workers", -1), ("--precision", "fp8")])
def test_numbers_and_names_that_cannot_work_are_refused(generate, words):
    code, said = generate(*words)
    assert code == 2 and "Traceback" not in said and str(words[1]) in said


def test_float16_on_a_cpu_is_refused_by_the_name_of_the_flag(generate):
    code, said = generate("--precision", "fp16", "--device", "cpu")
    assert code == 2 and "--precision fp16 needs a GPU" in said


@without_gpu
def test_a_bank_of_float16_is_verified_on_a_cpu(make, call, weights, photos, tmp_path):
    teacher = load_backbone(str(weights))  # float16 towers differ by less than float16 embeddings may
    make(identity=identity_of(teacher, precision="fp16"), teacher=lambda: teacher)
    code, said = call(main, "verify", tmp_path / "bank", "--root", photos)
    assert code == 0 and "regions agree with the teacher" in said, said


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:x", "gpu"])
def test_a_device_that_is_not_there_is_refused(generate, call, make, photos, tmp_path, device):
    make()
    for code, said in (
        generate("--device", device, "--bank", tmp_path / "another"),
        call(main, "verify", tmp_path / "bank", "--root", photos, "--device", device),
        call(measure_generation.main, photos, "--device", device),
        call(measure_text.main, "--device", device),
    ):
        assert code == 2 and device in said and "Traceback" not in said
    assert not (tmp_path / "another").exists()


def test_the_gpu_is_used_where_there_is_one(generate, monkeypatch):
    """The device that the teacher is loaded on."""
    devices = []

    def load(name: str, device: str = "cpu", precision: str = "fp32"):
        devices.append(device)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("fdbpl.backbones.load_backbone", load)
    assert generate()[0] == 130 and devices == ["cuda"]
