"""Grids on a real Slurm cluster of one node (one_node.sh), which runs in the test's folder: LAUNCHER=slurm.

The jobs are small shell commands, so that the tests are about the launcher: a grid, a job that runs out of time and is
requeued, a cancelled job, and Ctrl-C. They take about five minutes, most of which a job waits for its time limit. Run
them with FDBPL_SLURM=1: they install Debian packages.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdbpl.protocols import launchers
from fdbpl.protocols.launchers import launcher

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = Path(__file__).with_name("one_node.sh")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Path]:
    pytest.importorskip("submitit")
    if os.environ.get("FDBPL_SLURM") != "1":
        pytest.skip("installs Debian packages and takes five minutes; set FDBPL_SLURM=1")
    if os.geteuid() != 0:
        pytest.skip("the cluster needs root")
    folder = tmp_path_factory.mktemp("slurm")
    for parent in (folder, folder.parent, folder.parent.parent):  # the users of munge and MariaDB pass through them
        parent.chmod(0o755)
    with open(folder / "started", "w") as log:  # no pipe: the daemons would hold it open
        started = subprocess.run(["bash", CLUSTER, "start", folder], stdout=log, stderr=log, timeout=600)
    if started.returncode == 3:
        pytest.skip("the packages of Slurm cannot be installed here")
    log_text = (folder / "started").read_text()
    assert started.returncode == 0 and "idle" in log_text, log_text
    yield folder
    subprocess.run(["bash", CLUSTER, "stop", folder], check=False, capture_output=True)


@pytest.fixture(autouse=True)
def settings(cluster, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster / "slurm.conf"))
    monkeypatch.setitem(launchers.POLL, "slurm", 1.0)
    monkeypatch.chdir(ROOT)


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def ends(launch, commands, jobs: int = 2) -> list[tuple[int, int, str]]:
    return sorted((result.number, result.code, result.line) for result in launch(commands, jobs))


def running_jobs() -> list[str]:
    run = subprocess.run(["squeue", "-h", "-t", "RUNNING", "-o", "%i"], capture_output=True, text=True, check=True)
    return run.stdout.split()


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_grid(tmp_path):
    commands = [shell(f"echo {n} done; test {n} != 2 || {{ echo error: broken {n} >&2; exit 3; }}") for n in (1, 2, 3)]
    assert ends(launcher("slurm", "timeout_min=5", tmp_path), commands) == [
        (0, 0, "1 done"), (1, 3, "broken 2"), (2, 0, "3 done"),
    ]  # fmt: skip


def test_a_job_that_runs_out_of_time_is_requeued(tmp_path):
    """Its command resumes on the second attempt. Slurm warns 90 s before the end of the three minutes."""
    script = f"echo x >> {tmp_path}/attempts; test $(wc -l < {tmp_path}/attempts) -gt 1 && echo resumed || sleep 600"
    assert ends(launcher("slurm", "timeout_min=3", tmp_path), [shell(script)]) == [(0, 0, "resumed")]
    assert (tmp_path / "attempts").read_text() == "x\nx\n"


def test_a_cancelled_job_fails_and_the_others_go_on(tmp_path):
    commands = [shell(f"touch {tmp_path}/started; sleep 300"), shell("sleep 2; echo fine")]

    def cancel() -> None:
        wait_for((tmp_path / "started").exists)
        subprocess.run(["scancel", running_jobs()[0]], check=True)

    thread = threading.Thread(target=cancel)
    thread.start()
    found = ends(launcher("slurm", "timeout_min=5", tmp_path), commands, 1)
    thread.join()
    assert found[0][1] != 0 and found[0][2]
    assert found[1] == (1, 0, "fine")


def test_ctrl_c_leaves_the_jobs_to_slurm(tmp_path):
    """The same command waits for them again; nothing is submitted twice."""
    code = (
        "from pathlib import Path; from fdbpl.errors import cli_error_handler\n"
        "from fdbpl.protocols import jobs, launchers\n"
        "launchers.POLL['slurm'] = 1.0\n"
        f"script = 'echo x >> {tmp_path}/attempts; while [ ! -e {tmp_path}/go ]; do sleep 0.2; done; echo went'\n"
        "with cli_error_handler():\n"
        f"    launch = launchers.launcher('slurm', 'timeout_min=5', Path({str(tmp_path)!r}))\n"
        "    jobs.run_jobs([['sh', '-c', script]], 1, launch)"
    )

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    first = start()
    wait_for((tmp_path / "attempts").exists)
    first.send_signal(signal.SIGINT)
    errors = first.communicate(timeout=30)[1]
    assert first.returncode == 130 and "1 jobs go on in Slurm" in errors and running_jobs()
    second = start()
    time.sleep(3)
    (tmp_path / "go").touch()
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, errors
    assert "were submitted before and are still in Slurm" in output and "went" in output
    assert (tmp_path / "attempts").read_text() == "x\n"
