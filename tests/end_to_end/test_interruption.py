"""SIGKILL at any moment: the next call continues and ends with the numbers of an undisturbed run."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

EPOCHS = ("OPTIM.MAX_EPOCH", 6, "TRAIN.CHECKPOINT_FREQ", 1)
REGIONS = ("REGIONS.PER_IMAGE", 8)


@pytest.fixture(scope="module")
def undisturbed(scripts):
    """Runs of their own output folder on the session's data."""
    straight = type(scripts)(scripts.output.parent / "straight", data=scripts.data)
    straight.succeed("base2new_train.sh", "demo", 1, "FDBPL", *EPOCHS, *REGIONS)
    straight.succeed("base2new_train.sh", "demo", 1, "CoOp", *EPOCHS)
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


def same_results(first: Path, second: Path, learners: list[str]):
    for name in learners:
        states = [
            torch.load(folder / name / "model.pth.tar-6", weights_only=True)["state_dict"] for folder in (first, second)
        ]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    numbers = [json.loads((folder / "metrics.json").read_text()) for folder in (first, second)]
    assert all(numbers[0][key] == numbers[1][key] for key in ("accuracy", "macro_f1", "error_rate"))


def folders(scripts, trainer: str) -> Path:
    (config,) = (scripts.output / "base2new" / "train_base" / "demo" / "shots_16" / trainer).iterdir()
    return config / "seed1"


def test_killed_in_generation_and_in_training(scripts, undisturbed, tmp_path):
    killed = type(scripts)(tmp_path, data=scripts.data)
    command = ("base2new_train.sh", "demo", 1, "FDBPL", *EPOCHS, *REGIONS)
    kill_when(killed.start(*command), lambda: list(killed.output.rglob("regions-*.safetensors")))
    assert len(bank_bytes(killed.output)) < len(bank_bytes(undisturbed.output))
    kill_when(killed.start(*command), lambda: list(killed.output.rglob("model.pth.tar-3")))
    killed.succeed(*command)
    assert bank_bytes(killed.output) == bank_bytes(undisturbed.output)
    same_results(folders(killed, "FDBPL"), folders(undisturbed, "FDBPL"), ["prompt_learner", "negative_prompt_learner"])


def test_images_in_the_loop_resume_exactly_too(scripts, undisturbed, tmp_path):
    killed = type(scripts)(tmp_path, data=scripts.data)
    command = ("base2new_train.sh", "demo", 1, "CoOp", *EPOCHS)
    kill_when(killed.start(*command), lambda: list(killed.output.rglob("model.pth.tar-2")))
    killed.succeed(*command)
    same_results(folders(killed, "CoOp"), folders(undisturbed, "CoOp"), ["prompt_learner"])


def test_another_number_of_processes_goes_on(scripts, undisturbed, tmp_path):
    """Three epochs by one process, two more by two, the last by one; each writes one log and one result."""
    straight, run = folders(undisturbed, "FDBPL"), tmp_path / "run"
    shutil.copytree(straight, run)
    command = json.loads((run / "run.json").read_text())["command"]
    command[command.index("--output-dir") + 1] = str(run)
    numbers = json.loads((straight / "metrics.json").read_text())
    for processes, epochs in ((2, 3), (1, 5)):
        for file in (run / "done.json", run / "metrics.json", *run.glob("*/model.pth.tar-*")):
            if file.suffix == ".json" or int(file.name.rpartition("-")[2]) > epochs:
                file.unlink()
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        subprocess.run([sys.executable, *torchrun, *command[1:]], env=scripts.environment, check=True, timeout=300,
                       capture_output=True, cwd=Path(__file__).parents[2])  # fmt: skip
        log, found = (run / "log.txt").read_text(), json.loads((run / "metrics.json").read_text())
        assert log.count(f"Resuming from epoch {epochs} ") == 1 and f"Processes: {processes}\n" in log
        saved = re.findall(r"Checkpoint saved to .*/(.*)/model.pth.tar-(\d)", log)
        assert len(saved) == len(set(saved)) == 2 * (6 - epochs)
        assert found["processes"] == processes and (run / "done.json").is_file()
        assert found["accuracy"] == pytest.approx(numbers["accuracy"], abs=0.3)  # an image on the border, at most
        for name in ("prompt_learner", "negative_prompt_learner"):
            first, other, expected = (
                torch.load(folder / name / f"model.pth.tar-{epoch}", weights_only=True)["state_dict"]["ctx"]
                for folder, epoch in ((straight, 1), (run, 6), (straight, 6))
            )
            assert (other - expected).norm() <= 1e-4 * (expected - first).norm()
