"""Concurrent jobs use different GPUs. The number of GPUs is simulated; jobs only print CUDA_VISIBLE_DEVICES."""

from pathlib import Path

import pytest

from fdbpl.protocols import jobs, launchers
from fdbpl.protocols.jobs import in_process
from fdbpl.protocols.launchers import launcher

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    for module in (jobs, launchers):
        monkeypatch.setattr(module, "gpu_count", lambda: 2)
    for name in ("CUDA_VISIBLE_DEVICES", "NPROC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(ROOT)


def ends(launch, commands, jobs):
    return sorted((ended.code, ended.line) for ended in launch(commands, jobs))


def occupying(folder: Path) -> list[str]:
    """A job that fails if another job has its GPU at the same time."""
    gpu = f"{folder}/gpu$CUDA_VISIBLE_DEVICES"
    return ["sh", "-c", f'mkdir "{gpu}" && sleep 0.2 && rmdir "{gpu}" && echo $CUDA_VISIBLE_DEVICES']


def test_each_slot_keeps_its_gpu(tmp_path):
    found = ends(in_process, [occupying(tmp_path)] * 6, 2)
    assert [code for code, _ in found] == [0] * 6 and {line for _, line in found} == {"0", "1"}


def test_local_jobs_of_submitit_have_different_gpus(tmp_path):
    pytest.importorskip("submitit")
    commands = [[*occupying(tmp_path), str(number)] for number in range(3)]
    found = ends(launcher("local", "timeout_min=5", tmp_path / "output"), commands, 2)
    assert [code for code, _ in found] == [0] * 3 and {line for _, line in found} == {"0", "1"}


def test_submitit_hides_no_gpu(tmp_path):
    pytest.importorskip("submitit")
    command = ["sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
    assert ends(launcher("local", "timeout_min=5", tmp_path / "output"), [command], 1) == [(0, "0,1")]


def test_more_jobs_than_gpus_share_them():
    shares = [jobs.job_environment(slot, 5)["CUDA_VISIBLE_DEVICES"] for slot in range(5)]
    assert shares == ["0", "1", "0", "1", "0"]


@pytest.mark.parametrize(
    ("environment", "jobs", "shown"),
    [({"CUDA_VISIBLE_DEVICES": "5"}, 2, "5"), ({"NPROC": "2"}, 2, "unset"), ({}, 1, "unset")],
)
def test_settings_of_the_user_win_and_processes_of_one_run_see_all(monkeypatch, environment, jobs, shown):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = ends(in_process, [["sh", "-c", "echo ${CUDA_VISIBLE_DEVICES-unset}"]] * 2, jobs)
    assert found == [(0, shown)] * 2
