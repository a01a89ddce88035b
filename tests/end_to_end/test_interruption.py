"""SIGKILL at any moment: the next call continues and ends with the numbers of an undisturbed run."""

import hashlib
import json
import os
import signal
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
