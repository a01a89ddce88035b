"""`python -m fdbpl.doctor` on this machine, and on machines with missing or broken parts."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fdbpl import doctor
from fdbpl.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def run_doctor(*python_flags, modules: Path | None = None) -> tuple[int, list[str], str]:
    """Run the command in a process; return its exit code, lines and stderr. `modules` precede the installed ones."""
    run = subprocess.run(
        [sys.executable, *python_flags, "-m", "fdbpl.doctor"], cwd=ROOT, text=True, capture_output=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(modules or ""), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    return run.returncode, run.stdout.splitlines(), run.stderr


def line_of(lines: list[str], subject: str) -> tuple[str, str, str]:
    """Return the mark, finding and remedy of a subject."""
    place = next(number for number, line in enumerate(lines) if line[3:].startswith(subject))
    following = lines[place + 1].strip() if place + 1 < len(lines) else ""
    remedy = following.removeprefix("-> ") if following.startswith("-> ") else ""
    return lines[place][:2].strip(), lines[place][16:], remedy


def findings(subject: str) -> list[doctor.Finding]:
    checks = {check.subject: check for check in doctor.checks(Path("data"), Path("output"))}
    return doctor.perform(checks[subject])


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs that torch lists but cannot use."""
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    card = SimpleNamespace(name="an old GPU", total_memory=2**33)
    for name, value in (("is_available", True), ("device_count", 2), ("get_device_properties", card)):
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def test_this_machine(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FDBPL_VENV", str(tmp_path / "none"))
    (tmp_path / "data" / "caltech-101").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        doctor.main(["--data", str(tmp_path / "data"), "--output", str(tmp_path / "new" / "output")])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and len(lines) <= 40, lines
    for subject in ("Python", "packages", "torch ", "torchvision", "clip", "Dassl", "demo CLIPs", "output", "machine"):
        assert line_of(lines, subject)[0] == "ok", lines
    assert line_of(lines, "data sets") == ("ok", f"Caltech101 in {tmp_path / 'data'}", "")
    assert lines[-1].startswith("The demo can run") and not (tmp_path / "new").exists()


def test_without_installed_packages():
    code, lines, errors = run_doctor("-S")
    assert code == 1 and errors == ""
    mark, found, remedy = line_of(lines, "packages")
    assert mark == "X" and "yacs" in found and "safetensors" in found and "requirements.txt" in remedy
    for subject in ("torch ", "torchvision", "clip", "Dassl"):
        mark, _, remedy = line_of(lines, subject)
        assert mark == "X" and remedy, subject
    assert line_of(lines, "demo CLIPs")[0] == "ok"
    assert line_of(lines, "open_clip") == ("!", "not installed", "for open_clip teachers: pip install open_clip_torch")
    assert re.fullmatch(r"The demo cannot run: 5 problems \(\d of the optional parts have warnings\)", lines[-1])


@pytest.mark.parametrize("code", ["raise OSError('libcudart.so.13: cannot open')", "import sys; sys.exit(3)"])
def test_broken_torch(tmp_path, code):
    (tmp_path / "torch.py").write_text(code)
    status, lines, errors = run_doctor(modules=tmp_path)
    assert status == 1 and errors == ""
    mark, found, remedy = line_of(lines, "torch ")
    assert mark == "X" and "does not work" in found and "--force-reinstall torch torchvision" in remedy
    assert line_of(lines, "machine")[0] == "ok"


def test_torchvision_that_does_not_match_torch(monkeypatch):
    def nms(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr("torchvision.ops.nms", nms)
    (found,) = findings("torchvision")
    assert found.state == "problem" and "torchvision::nms" in found.found and "torch torchvision" in found.remedy


def test_another_package_called_clip(monkeypatch):
    def clip_package():
        raise UserError("Another package called clip is installed")

    monkeypatch.setattr("fdbpl.backbones.openai_package.clip_package", clip_package)
    (found,) = findings("clip")
    assert found.state == "problem" and "Another package" in found.found and "pip uninstall -y clip" in found.remedy


def test_gpus_that_cannot_compute(two_gpus):
    first, second = findings("GPU")
    assert first.state == "problem" and "0: an old GPU, 8 GiB" in first.found and "cannot compute" in first.found
    assert second.state == "warning" and "1: an old GPU" in second.found and "CUDA_VISIBLE_DEVICES" in second.remedy


def test_gpus_on_which_dali_cannot_decode(two_gpus):
    pytest.importorskip("nvidia.dali")
    on_cpu, *on_gpus = findings("DALI")
    assert on_cpu.state == "fine" and on_cpu.found.endswith("decodes on the CPU")
    assert [finding.state for finding in on_gpus] == ["warning", "warning"]
    assert all(f"GPU {number} (SystemFailure: " in finding.found for number, finding in enumerate(on_gpus))


def test_dali_for_another_cuda_than_the_driver(monkeypatch):
    monkeypatch.setattr(doctor, "driver_cuda", lambda: "12")
    monkeypatch.setattr(doctor, "dali_builds", lambda: ["nvidia-dali-cuda130"])
    found = next(doctor.dali())
    assert "nvidia-dali-cuda130" in found.found and "CUDA 12" in found.found
    assert found.remedy.endswith("pip install nvidia-dali-cuda120")


def test_changed_demo_weights(tmp_path, monkeypatch):
    shutil.copytree(doctor.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(doctor, "WEIGHTS", tmp_path / "weights")
    (tmp_path / "weights" / "teacher.safetensors").write_bytes(b"other")
    (tmp_path / "weights" / "rn-student.safetensors").unlink()
    (found,) = findings("demo CLIPs")
    assert found.state == "problem" and "rn-student.safetensors, teacher.safetensors" in found.found


def test_clip_weights_in_the_cache(tmp_path, monkeypatch):
    import clip

    assert doctor.published_models() == clip.clip._MODELS and set(doctor.STUDENTS) <= clip.clip._MODELS.keys()
    digest = hashlib.sha256(b"right").hexdigest()
    published = {name: f"https://x/{digest}/{file}.pt"
                 for name, file in (("RN50", "RN50"), ("ViT-B/32", "B32"), ("ViT-B/16", "B16"))}  # fmt: skip
    monkeypatch.setattr(doctor, "published_models", lambda: published)
    monkeypatch.setenv("FDBPL_CLIP_CACHE", str(tmp_path))
    (tmp_path / "RN50.pt").write_bytes(b"right")
    (tmp_path / "B32.pt").write_bytes(b"truncated")
    broken, complete, missing = findings("CLIP weights")
    assert broken.state == "warning" and "ViT-B/32" in broken.found and "delete" in broken.remedy
    assert complete.state == "fine" and complete.found.startswith("RN50 in ")
    assert missing.state == "warning" and "ViT-B/16" in missing.found


def test_output_folder_and_disk(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (found,) = doctor.writable(tmp_path / "file" / "output")
    assert found.state == "problem" and "OUTPUT" in found.remedy
    usage = shutil.disk_usage(tmp_path)
    for free, state in ((2**20, "problem"), (2**30, "warning"), (2**40, "fine")):
        monkeypatch.setattr(shutil, "disk_usage", lambda place, free=free: usage._replace(free=free))
        (found,) = doctor.disk(tmp_path / "output")
        assert found.state == state


@pytest.mark.parametrize(
    ("found", "wanted", "holds"),
    [("2.4.0", ">=2.4", True), ("2.14.1+cu130", ">=2.4", True), ("2.3.1", ">=2.4", False), ("81.0", "<81", False),
     ("80.9", "<81", True), ("1.0.1", "==1.0.1", True), ("2.0", ">=1.0,<2", False), ("3", "", True)],
)  # fmt: skip
def test_version_ranges(found, wanted, holds):
    assert doctor.satisfies(found, wanted) is holds
