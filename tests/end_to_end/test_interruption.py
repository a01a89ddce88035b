"""SIGKILL during generation and training: the next call resumes and gives the numbers of an uninterrupted run."""

import hashlib
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

SETTINGS = ("OPTIM.MAX_EPOCH", 6, "TRAIN.CHECKPOINT_FREQ", 1, "REGIONS.PER_IMAGE", 8)
COMMAND = ("few_shot.sh", "demo", 1, "FDBPL", *SETTINGS)


@pytest.fixture(scope="module")
def uninterrupted(scripts):
    """An uninterrupted run in an output folder of its own."""
    straight = scripts.elsewhere(scripts.output.with_name("uninterrupted"))
    straight.succeed_here(*COMMAND, SHOTS="8")
    return straight


def kill_when(process, condition, patience: float = 240):
    deadline = time.monotonic() + patience
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def bank_bytes(output: Path) -> dict[str, str]:
    root = output / "regions"
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*.safetensors"))
    }


def same_results(first: Path, second: Path, modules: list[str]):
    for name in modules:
        states = [
            torch.load(folder / name / "model.pth.tar-6", weights_only=True)["state_dict"] for folder in (first, second)
        ]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    numbers = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    assert all(numbers[0][key] == numbers[1][key] for key in ("accuracy", "macro_f1", "error_rate"))


def run_folder(scripts) -> Path:
    (folder,) = (scripts.output / "train_all" / "demo").glob("shots_8/FDBPL/*/seed1")
    return folder


def test_killed_in_generation_and_in_training(scripts, uninterrupted, tmp_path):
    killed = scripts.elsewhere(tmp_path)
    kill_when(killed.start(*COMMAND, SHOTS="8"), lambda: list(killed.output.rglob("regions-*.safetensors")))
    assert len(bank_bytes(killed.output)) < len(bank_bytes(uninterrupted.output))
    kill_when(killed.start(*COMMAND, SHOTS="8"), lambda: list(killed.output.rglob("model.pth.tar-3")))
    killed.succeed_here(*COMMAND, SHOTS="8")
    assert bank_bytes(killed.output) == bank_bytes(uninterrupted.output)
    modules = ["prompt_learner", "negative_prompt_learner"]
    same_results(run_folder(killed), run_folder(uninterrupted), modules)


def test_resuming_with_another_number_of_processes(scripts, uninterrupted, tmp_path):
    """Three epochs in one process, two more in two (NPROC=2), the last in one; each writes one log and one result."""
    resumed, straight = scripts.elsewhere(tmp_path), run_folder(uninterrupted)
    run = resumed.output / straight.relative_to(uninterrupted.output)
    shutil.copytree(straight, run)
    (resumed.output / "regions").symlink_to(uninterrupted.output / "regions")
    numbers = json.loads((straight / "metrics.json").read_text())
    for processes, epochs in ((2, 3), (1, 5)):
        for file in (run / "done.json", run / "metrics.json", *run.glob("*/model.pth.tar-*")):
            if file.suffix == ".json" or int(file.name.rpartition("-")[2]) > epochs:
                file.unlink()
        if processes == 1:
            resumed.succeed_here(*COMMAND, SHOTS="8")
        else:
            resumed.succeed(*COMMAND, SHOTS="8", NPROC=str(processes))
        log, found = (run / "log.txt").read_text(), json.loads((run / "metrics.json").read_text())
        assert log.count(f"Resuming from epoch {epochs} ") == 1 and f"Processes: {processes}\n" in log
        saved = re.findall(r"Checkpoint saved to .*/(.*)/model.pth.tar-(\d)", log)
        assert len(saved) == len(set(saved)) == 2 * (6 - epochs)
        assert found["processes"] == processes and (run / "done.json").is_file()
        assert found["accuracy"] == pytest.approx(numbers["accuracy"], abs=0.3)  # one image at most
        for name in ("prompt_learner", "negative_prompt_learner"):
            first, other, expected = (
                torch.load(folder / name / f"model.pth.tar-{epoch}", weights_only=True)["state_dict"]["ctx"]
                for folder, epoch in ((straight, 1), (run, 6), (straight, 6))
            )
            assert (other - expected).norm() <= 1e-4 * (expected - first).norm()
