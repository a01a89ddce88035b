"""Generation in separate processes: killed ones, several at a time; `inspect` of large banks."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fdbpl.regions.inspection import informativeness

from .conftest import content

ROOT = Path(__file__).resolve().parents[2]


def start(arguments, per_image=200, **streams):
    """Start a generation in its own process."""
    root, bank, weights = arguments
    command = [
        sys.executable, "-m", "fdbpl.regions", "generate", "--root", root, "--images", root, "--bank", bank,
        "--teacher", weights, "--student", weights, "--per-image", per_image, "--pipeline", "torchvision",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    streams = {"stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, text=True, **streams)


@pytest.mark.slow
def test_killed_generations_and_simultaneous_ones_produce_the_same_bytes(photos, weights, tmp_path):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    run = start((photos, uninterrupted, weights))
    assert run.wait(120) == 0, run.stderr.read()
    clock = random.Random(5)
    for _ in range(2):
        run = start((photos, killed, weights))
        have = len(list(killed.rglob("*.safetensors")))
        while run.poll() is None and len(list(killed.rglob("*.safetensors"))) <= have:
            time.sleep(0.005)
        time.sleep(clock.uniform(0, 0.1))
        run.send_signal(signal.SIGKILL)
        run.wait()
    both = [start((photos, killed, weights)) for _ in range(2)]
    assert [run.wait(120) for run in both] == [0, 0], both[0].stderr.read()
    assert content(killed) == content(uninterrupted)
    assert not list(killed.rglob("*.partial"))


@pytest.mark.slow
def test_a_second_call_waits_for_the_first_and_continues_when_it_dies(photos, weights, tmp_path):
    bank, log = tmp_path / "bank", tmp_path / "second.log"
    first = start((photos, bank, weights), 600)
    while first.poll() is None and len(list(bank.glob("regions-*"))) < 2:
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    with open(log, "w") as stream:
        second = start((photos, bank, weights), 600, stdout=stream)
    while second.poll() is None and "Waiting for another process" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert second.poll() is None
    there = {file: file.stat().st_mtime_ns for file in bank.glob("regions-*")}
    assert len(there) < 12
    first.kill()
    assert second.wait(60) == 0
    made = 600 * (12 - len(there))
    assert f"{made} regions labelled" in log.read_text()
    assert there.items() <= {file: file.stat().st_mtime_ns for file in bank.glob("regions-*")}.items()


def test_inspect_handles_banks_of_the_size_of_imagenet():
    """torch.quantile is limited to 2^24 numbers."""
    entropy = np.tile(np.float32([0.05, 0.15, 0.25, 0.35, 1.0]), 3_400_000)
    first, *histogram = informativeness(entropy, 7).splitlines()
    assert first == "  entropy / ln 7: quantiles 5 25 50 75 95 %: 0.05 0.15 0.25 0.35 1.00"
    assert [line.split()[-2] for line in histogram] == ["20.0"] * 4 + ["0.0"] * 5 + ["20.0"]
