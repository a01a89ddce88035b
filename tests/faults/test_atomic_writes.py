"""Atomic writes and locks under kills, concurrent writers and planted links."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdbpl.errors import SystemFailure
from fdbpl.interruption import Terminated, sigterm_interrupts
from fdbpl.io import atomic
from fdbpl.io.locks import file_lock

ROOT = Path(__file__).resolve().parents[2]
SIZE = 300_000
WRITER = f"""
import sys
from fdbpl.io.atomic import write_bytes
for turn in range(10**9):
    write_bytes(sys.argv[1], bytes([turn % 256]) * {SIZE})
"""


def writer(file: Path) -> subprocess.Popen:
    """A process that writes `file` repeatedly."""
    return subprocess.Popen([sys.executable, "-c", WRITER, file], cwd=ROOT)


def is_complete(file: Path) -> bool:
    content = file.read_bytes()
    return len(content) == SIZE and len(set(content)) == 1


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_writers_killed_at_random_moments(tmp_path):
    chance, file, rounds, left = random.Random(3), tmp_path / "file", 0, 0
    while rounds < 12 or not left:  # at least one round must interrupt a write
        assert rounds < 100
        file.unlink(missing_ok=True)
        both = [writer(file), writer(file)]
        wait_for(file)
        time.sleep(chance.uniform(0, 0.05))
        for process in both:
            process.kill()
            process.wait()
        assert is_complete(file)
        rounds, left = rounds + 1, left + (len(os.listdir(tmp_path)) > 1)
    atomic.write_bytes(file, b"the last one")
    assert os.listdir(tmp_path) == ["file"] and file.read_bytes() == b"the last one"


def test_partial_files_of_ended_processes_only_are_removed(tmp_path):
    living, dead = tmp_path / "bank" / "living", tmp_path / "bank" / "deep" / ".dead.partial"
    dead.parent.mkdir(parents=True)
    dead.touch()
    with atomic.atomic_open(living) as file:
        file.write(b"some")
        atomic.clean_partial_files(tmp_path)
        assert not dead.exists()
        file.write(b" more")
    assert living.read_bytes() == b"some more" and os.listdir(living.parent) in (["living", "deep"], ["deep", "living"])


def test_a_planted_link_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / ".file.partial").symlink_to(other)
    with pytest.raises(SystemFailure, match="cannot write .*file"):
        atomic.write_text(tmp_path / "file", "text")
    assert other.read_text() == "precious"


def test_an_interruption_keeps_the_old_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(Terminated), sigterm_interrupts(), atomic.atomic_open(file, "strict") as stream:
        stream.write("new")
        signal.raise_signal(signal.SIGTERM)
    assert file.read_text() == "old" and os.listdir(tmp_path) == ["file"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_an_interruption_in_a_destructor_is_not_lost(number, kind, capsys):
    """Python prints and drops exceptions in destructors."""

    class Ending:
        def __del__(self):
            signal.raise_signal(number)

    with pytest.raises(kind), sigterm_interrupts():
        Ending()
        time.sleep(20)
    assert capsys.readouterr().err == ""


def test_no_traceback_of_partly_constructed_objects():
    """Destructors of partly constructed objects, such as torch's data loaders, print no traceback."""
    code = """
from fdbpl.errors import cli_error_handler
class Partial:
    def __init__(self):
        raise KeyboardInterrupt
    def __del__(self):
        self.never_set
with cli_error_handler():
    Partial()
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 130 and len(run.stderr.split("\n")) == 3, run.stderr  # an empty line and the message


def test_no_traceback_of_an_interrupted_exit_handler():
    code = """
import atexit, os, signal, time
from fdbpl.errors import cli_error_handler
def ending():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)
with cli_error_handler():
    atexit.register(ending)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == -signal.SIGINT and run.stderr == ""


def test_a_killed_process_releases_its_lock(tmp_path, capsys):
    code = "import sys, time; from pathlib import Path; from fdbpl.io.locks import file_lock\n" \
           "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"  # fmt: skip
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "lock"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    waiting = subprocess.Popen(
        [sys.executable, "-c", code.replace("[1])", "[1]), 'waiting'"), tmp_path / "lock"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stdout.readline() == "waiting\n"
    holder.kill()
    assert waiting.stdout.readline() == "held\n"
    waiting.kill()
    for process in (holder, waiting):
        process.communicate()
    with file_lock(tmp_path / "lock", "waiting"):
        pass
    assert capsys.readouterr().out == ""
