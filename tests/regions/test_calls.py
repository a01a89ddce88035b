"""Generation as users call it: killed, interrupted, several calls on one bank at once; and what `inspect` says then."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from fdbpl.io.locks import file_lock
from fdbpl.regions.inspection import informativeness

from .conftest import content, tiny

ROOT = Path(__file__).resolve().parents[2]


def in_process(arguments, per_image=200, **streams):
    """A generation in a process of its own, on the command line's terms."""
    root, bank, weights = arguments
    command = [
        sys.executable, "-m", "fdbpl.regions", "generate", "--root", root, "--images", root, "--bank", bank,
        "--teacher", weights, "--student", weights, "--per-image", per_image, "--pipeline", "torchvision",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    streams = {"stderr": subprocess.PIPE, **streams}
    return subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment, text=True, **streams)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("clip") / "tiny.safetensors"
    save_file(tiny(1).model.state_dict(), file)
    return file


def test_killed_at_random_moments_and_by_two_at_once_the_bytes_are_the_same(photos, weights, tmp_path):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run = in_process((photos, straight, weights))
    assert run.wait(120) == 0, run.stderr.read()
    clock = random.Random(5)
    for _ in range(2):
        run = in_process((photos, killed, weights))
        have = len(list(killed.rglob("*.safetensors")))
        while run.poll() is None and len(list(killed.rglob("*.safetensors"))) <= have:
            time.sleep(0.005)
        time.sleep(clock.uniform(0, 0.1))
        run.send_signal(signal.SIGKILL)
        run.wait()
    both = [in_process((photos, killed, weights)) for _ in range(2)]
    assert [run.wait(120) for run in both] == [0, 0], both[0].stderr.read()
    assert content(killed) == content(straight)
    assert not list(killed.rglob("*.partial"))


def stopped(process):
    """Whether all threads of a process stand still."""
    threads = Path(f"/proc/{process.pid}/task").glob("*/stat")
    return all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)


def test_two_at_once_share_the_work_and_take_over_from_the_dead(photos, weights, tmp_path):
    """One that is stopped half-way holds files; the other makes the rest, waits, and makes those when it dies."""
    bank = tmp_path / "bank"
    first = in_process((photos, bank, weights), 600)
    while first.poll() is None and len(list(bank.glob("regions-*"))) < 2:
        time.sleep(0.002)
    with file_lock(bank / ".cost.lock"):  # which it must not hold then
        first.send_signal(signal.SIGSTOP)
        while not stopped(first):
            time.sleep(0.001)
    there = {file: file.stat().st_mtime_ns for file in bank.glob("regions-*")}
    log, deadline = tmp_path / "second.log", time.monotonic() + 60
    with open(log, "w") as stream:
        second = in_process((photos, bank, weights), 600, stdout=stream)
    while second.poll() is None and "Waiting for another call, which makes" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert second.poll() is None and len(list(bank.glob("regions-*"))) < 12
    first.kill()
    assert second.wait(60) == 0
    report = log.read_text()
    made = 600 * (12 - len(there))
    assert f"{made} regions labelled, {made} student features added" in report
    assert there.items() <= {file: file.stat().st_mtime_ns for file in bank.glob("regions-*")}.items()


def test_what_one_of_two_at_once_made_nobody_makes_again(photos, weights, tmp_path):
    both = [in_process((photos, tmp_path / "bank", weights), 600, stdout=subprocess.PIPE) for _ in range(2)]
    reports = [run.communicate(timeout=120)[0] for run in both]
    assert [run.returncode for run in both] == [0, 0]
    made = [int(re.search(r"; (\d+) regions labelled", report)[1]) for report in reports]
    assert sum(made) == 7200, made


def test_interrupted_by_the_user_it_says_how_to_go_on(photos, weights, tmp_path):
    run = in_process((photos, tmp_path / "bank", weights))
    while run.poll() is None and not list((tmp_path / "bank").rglob("regions-*")):
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    errors = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "Traceback" not in errors
    assert "the same command continues" in errors


def test_inspect_and_verify(photos, weights, tmp_path):
    bank = tmp_path / "bank"
    assert in_process((photos, bank, weights)).wait(120) == 0
    command = [sys.executable, "-m", "fdbpl.regions"]
    shown = subprocess.run([*command, "inspect", bank], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0 and "2400 regions of 12 images" in shown.stdout
    check = [*command, "verify", bank, "--root", photos]
    good = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    assert good.returncode == 0 and "labelled again agree" in good.stdout


def test_inspect_takes_banks_of_imagenet_s_size():
    """torch's own quantiles end at 2^24 numbers."""
    entropy = np.tile(np.float32([0.05, 0.15, 0.25, 0.35, 1.0]), 3_400_000)
    first, *histogram = informativeness(entropy, 7).splitlines()
    assert first == "  entropy / ln 7: quantiles 5 25 50 75 95 %: 0.05 0.15 0.25 0.35 1.00"
    assert [line.split()[-2] for line in histogram] == ["20.0"] * 4 + ["0.0"] * 5 + ["20.0"]
