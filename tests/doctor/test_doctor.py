"""`python -m fdbpl.doctor` on machines that lack things or hold broken ones, as subprocesses where modules matter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import fdbpl.doctor as checks

ROOT = Path(__file__).resolve().parents[2]


def doctor(*flags, python=(), modules: Path | None = None, **environment) -> tuple[int, list[str], str]:
    """Exit code, lines, stderr; `modules` stands in front of what is installed."""
    run = subprocess.run(
        [sys.executable, *python, "-m", "fdbpl.doctor", *map(str, flags)], cwd=ROOT, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(modules or ""), "CUDA_VISIBLE_DEVICES": "", **environment}, timeout=120,
    )  # fmt: skip
    return run.returncode, run.stdout.splitlines(), run.stderr


def state(lines: list[str], subject: str) -> tuple[str, str, str]:
    """Mark, finding and remedy of a subject."""
    place = next(number for number, line in enumerate(lines) if line[3:].startswith(subject))
    following = lines[place + 1].strip() if place + 1 < len(lines) else ""
    remedy = following.removeprefix("-> ") if following.startswith("-> ") else ""
    return lines[place][:2].strip(), lines[place][16:], remedy


def test_this_machine(tmp_path):
    (tmp_path / "data" / "caltech-101").mkdir(parents=True)
    code, lines, errors = doctor("--data", tmp_path / "data", "--output", tmp_path / "new" / "output")
    assert code == 0 and errors == "" and len(lines) <= 40, (lines, errors)
    import torch

    assert state(lines, "torch ")[:2] == ("ok", torch.__version__)
    for subject in ("Python", "packages", "torchvision", "clip", "Dassl", "demo CLIPs", "output", "machine"):
        assert state(lines, subject)[0] == "ok", lines
    assert state(lines, "data sets") == ("ok", f"Caltech101 in {tmp_path / 'data'}", "")
    assert state(lines, "GPU")[0] == "!" and "PREC fp32" in state(lines, "GPU")[2]
    assert lines[-1].startswith("The demo can run") and not (tmp_path / "new").exists()


def test_before_anything_is_installed():
    """-S: Python without its packages."""
    code, lines, errors = doctor(python=("-S",))
    assert code == 1 and errors == ""
    mark, found, remedy = state(lines, "packages")
    assert mark == "X" and "yacs" in found and "safetensors" in found and "requirements.txt" in remedy
    for subject in ("torch ", "torchvision", "clip", "Dassl"):
        mark, _, remedy = state(lines, subject)
        assert mark == "X" and remedy, subject
    assert state(lines, "demo CLIPs")[0] == "ok" and state(lines, "open_clip")[0] == "!"
    assert re.fullmatch(r"The demo cannot run: 5 problems \(\d of the optional parts have warnings\)", lines[-1])


@pytest.mark.parametrize("code", ["raise OSError('libcudart.so.13: cannot open')", "import sys; sys.exit(3)", "x = 1"])
def test_a_broken_torch(tmp_path, code):
    (tmp_path / "torch.py").write_text(code)
    status, lines, errors = doctor(modules=tmp_path)
    assert status == 1 and errors == ""
    mark, found, remedy = state(lines, "torch ")
    assert mark == "X" and "does not work" in found and "--force-reinstall torch torchvision" in remedy
    assert state(lines, "machine")[0] == "ok"  # it went on


def test_the_wrong_clip_another_torchvision_and_no_open_clip(tmp_path):
    (tmp_path / "clip.py").write_text("def copy(text): ...")
    (tmp_path / "torchvision").mkdir()
    trap = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(trap)
    blocker = """
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in ("open_clip", "pkg_resources"):
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Blocker())
    """
    (tmp_path / "usercustomize.py").write_text(blocker.replace("\n        ", "\n"))
    (tmp_path / "sitecustomize.py").write_text(blocker.replace("\n        ", "\n"))
    code, lines, errors = doctor(modules=tmp_path)
    assert code == 1 and errors == ""
    mark, found, remedy = state(lines, "torchvision")
    assert mark == "X" and "torchvision::nms" in found and "torch torchvision" in remedy
    mark, found, remedy = state(lines, "clip")
    assert mark == "X" and str(tmp_path / "clip.py") in found and "pip uninstall -y clip" in remedy
    assert state(lines, "open_clip") == ("!", "none: needed for open_clip teachers", "pip install open_clip_torch")


def test_gpus_that_cannot_be_used_are_found(monkeypatch):
    """Without a GPU: those that torch claims to have here refuse every kernel and every pipeline."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    card = SimpleNamespace(name="an old GPU", total_memory=2**33)
    for name, value in (("is_available", True), ("device_count", 2), ("get_device_properties", card)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    _, first, second = checks.torch_and_gpu()
    assert first.state == "problem" and "0: an old GPU, 8 GiB" in first.found and "cannot compute" in first.found
    assert second.state == "warning" and "1: an old GPU" in second.found and "CUDA_VISIBLE_DEVICES" in second.remedy
    if not checks.present("nvidia.dali"):
        pytest.skip("NVIDIA DALI is not installed")
    on_cpu, *on_gpus = checks.dali()
    assert on_cpu.state == "fine" and on_cpu.found.endswith("decodes on the CPU")
    assert [finding.state for finding in on_gpus] == ["warning", "warning"]
    assert all(f"GPU {number} (SystemFailure: " in finding.found for number, finding in enumerate(on_gpus))


def test_dali_of_another_cuda_than_the_driver(monkeypatch):
    monkeypatch.setattr(checks, "cuda_of_driver", lambda: "12")
    monkeypatch.setattr(checks, "metadata_names", lambda: ["torch", "nvidia-dali-cuda130"])
    monkeypatch.setattr(checks, "present", lambda module: True)
    monkeypatch.setattr(checks, "imports", lambda module: False)
    finding, _ = checks.dali()
    assert "nvidia-dali-cuda130" in finding.found and "CUDA 12" in finding.found
    assert finding.remedy.endswith("pip install nvidia-dali-cuda120")


def test_clip_without_pkg_resources(monkeypatch):
    monkeypatch.setattr(checks, "present", lambda module: module != "pkg_resources")
    (finding,) = checks.clip()
    assert finding.state == "problem" and finding.remedy == "pip install 'setuptools<81'"


def test_demo_clips_that_changed(tmp_path, monkeypatch):
    shutil.copytree(checks.DEMO, tmp_path / "weights")
    monkeypatch.setattr(checks, "DEMO", tmp_path / "weights")
    assert [finding.state for finding in checks.demo_clips()] == ["fine"]
    (tmp_path / "weights" / "teacher.safetensors").write_bytes(b"other")
    (tmp_path / "weights" / "rn-student.safetensors").unlink()
    (finding,) = checks.demo_clips()
    assert finding.state == "problem" and "rn-student.safetensors, teacher.safetensors" in finding.found


def test_weights_in_the_cache(tmp_path, monkeypatch):
    import hashlib

    import clip

    assert checks.published_models() == clip.clip._MODELS and set(checks.STUDENTS) <= clip.clip._MODELS.keys()
    digest = hashlib.sha256(b"right").hexdigest()
    published = {name: f"https://x/{digest}/{file}.pt"
                 for name, file in (("RN50", "RN50"), ("ViT-B/32", "B32"), ("ViT-B/16", "B16"))}  # fmt: skip
    monkeypatch.setattr(checks, "published_models", lambda: published)
    monkeypatch.setenv("FDBPL_CLIP_CACHE", str(tmp_path))
    (tmp_path / "RN50.pt").write_bytes(b"right")
    (tmp_path / "B32.pt").write_bytes(b"cut off")
    broken, there, missing = checks.clip_weights()
    assert broken.state == "warning" and "ViT-B/32" in broken.found and "delete" in broken.remedy
    assert there.state == "fine" and there.found.startswith("RN50 in ")
    assert missing.state == "warning" and "ViT-B/16" in missing.found


def test_an_output_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (finding,) = checks.writable(tmp_path / "file" / "output")
    assert finding.state == "problem" and "OUTPUT" in finding.remedy
    usage = shutil.disk_usage(tmp_path)
    for free, state_ in ((2**20, "problem"), (2**30, "warning"), (2**40, "fine")):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: usage._replace(free=free))
        (finding,) = checks.disk(tmp_path / "output")
        assert finding.state == state_


@pytest.mark.parametrize(
    ("found", "wanted", "holds"),
    [("2.4.0", ">=2.4", True), ("2.14.1+cu130", ">=2.4", True), ("2.3.1", ">=2.4", False), ("81.0", "<81", False),
     ("80.9", "<81", True), ("1.0.1", "==1.0.1", True), ("2.0", ">=1.0,<2", False), ("3", "", True)],
)  # fmt: skip
def test_ranges(found, wanted, holds):
    assert checks.fits(found, wanted) is holds
