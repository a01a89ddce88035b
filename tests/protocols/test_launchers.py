"""Grids through submitit: its local executor, and Slurm simulated by three small programs."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fdbpl.errors import SystemFailure, UserError
from fdbpl.protocols import launchers
from fdbpl.protocols.jobs import in_process, run_jobs
from fdbpl.protocols.launchers import launcher, slurm_settings

ROOT = Path(__file__).resolve().parents[2]
submitit = pytest.importorskip("submitit")

SCRIPT = "echo some; echo {n} done; test {n} != 2 || {{ echo 'error: broken {n}' >&2; echo more >&2; exit 3; }}"
COMMANDS = [["sh", "-c", SCRIPT.format(n=n)] for n in (1, 2, 3)]

SBATCH = r"""#!/bin/bash
state() { echo "$1" > "$SLURM_ROOT/new_$2" && mv "$SLURM_ROOT/new_$2" "$SLURM_ROOT/state_$2"; } # atomically, for sacct
cd "$SLURM_ROOT"
number=$(($(cat number 2>/dev/null || echo 70) + 1))
echo $number > number
cat "$1" >> submitted.sh
cp "$1" "script_$number" # as Slurm does: submitit moves its file away
array=$(sed -n "s/^#SBATCH --array='\?0-\([0-9]*\).*/\1/p" "$1")
cd "$OLDPWD"
for task in $(seq 0 ${array:-0}); do
    name=$number
    [ -z "$array" ] || { export SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$task; name=${number}_$task; }
    state RUNNING "$name"
    (SLURM_JOB_ID=$number bash "$SLURM_ROOT/script_$number"; state COMPLETED "$name") >/dev/null 2>&1 &
done
echo "Submitted batch job $number"
"""
SRUN = r"""#!/bin/bash
while [ "${1:0:1}" = - ]; do case "$1" in --unbuffered) shift ;; *) shift 2 ;; esac; done
"$@"
"""
SACCT = r"""#!/bin/bash
echo "JobID|State|NodeList"
for file in "$SLURM_ROOT"/state_*; do echo "${file##*state_}|$(cat "$file")|here"; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A folder whose programs behave like Slurm's on one machine without a queue."""
    root = tmp_path / "slurm"
    root.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    monkeypatch.setenv("SLURM_ROOT", str(root))
    monkeypatch.setenv("PATH", f"{root}:{os.environ['PATH']}")
    monkeypatch.setitem(launchers.POLL, "slurm", 0.1)
    monkeypatch.chdir(ROOT)
    return root


def endings(launch, commands, jobs=2):
    return sorted((ended.number, ended.code, ended.line) for ended in launch(commands, jobs))


def test_local_jobs_give_the_results_of_child_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    here = endings(in_process, COMMANDS)
    assert here == [(0, 0, "1 done"), (1, 3, "broken 2"), (2, 0, "3 done")]
    assert endings(launcher("local", "timeout_min=5", tmp_path / "out put"), COMMANDS) == here


def test_slurm_jobs_are_arrays_with_the_given_settings(tmp_path, slurm):
    launch = launcher("slurm", "partition=gpu gpus_per_node=1 comment='a word'", tmp_path / "out put")
    assert endings(launch, COMMANDS) == [(0, 0, "1 done"), (1, 3, "broken 2"), (2, 0, "3 done")]
    submitted = (slurm / "submitted.sh").read_text()
    for flag in ("array=0-2%2", "partition=gpu", "gpus-per-node=1", "comment='a word'", "time=240", "job-name=fdbpl"):
        assert f"#SBATCH --{flag}\n" in submitted
    assert submitted.count("#!/bin/bash") == 1
    assert endings(launch, COMMANDS[:1]) == [(0, 0, "1 done")]  # not an array
    assert json.loads((tmp_path / "out put/jobs/submitted.json").read_text()) == {}


def test_slurm_jobs_outlive_an_interruption(tmp_path, slurm, capsys):
    wait = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo {{n}} went"
    commands = [COMMANDS[0], *(["sh", "-c", wait.format(n=n)] for n in (1, 2))]
    running = launcher("slurm", "", tmp_path)(commands, 3)
    assert next(running).line == "1 done"
    running.close()
    assert "2 jobs go on in Slurm" in capsys.readouterr().err
    threading.Timer(1.0, (tmp_path / "go").touch).start()
    again = endings(launcher("slurm", "", tmp_path), commands[1:])
    assert again == [(0, 0, "1 went"), (1, 0, "2 went")]
    assert "2 of these jobs were submitted before" in capsys.readouterr().out
    assert (slurm / "submitted.sh").read_text().count("#!/bin/bash") == 1


def test_a_job_without_a_result(tmp_path, slurm, monkeypatch):
    monkeypatch.setattr(launchers, "PATIENCE", 0.0)
    monkeypatch.setattr(submitit.SlurmJob.watcher, "_delay_s", 0)
    srun = slurm / "srun"
    srun.write_text("#!/bin/bash\nexit 1\n")
    ((number, code, line),) = endings(launcher("slurm", "", tmp_path), COMMANDS[:1])
    assert (number, code) == (0, 1) and line.startswith("job 71 ended as COMPLETED: ")


def test_an_interrupted_local_grid_leaves_nothing_running(tmp_path):
    child = f"touch {tmp_path}/started; sleep 4; touch {tmp_path}/survived"
    code = (
        "from pathlib import Path; from fdbpl.protocols.jobs import run_jobs\n"
        "from fdbpl.protocols.launchers import launcher\n"
        "from fdbpl.errors import cli_error_handler\n"
        "with cli_error_handler():\n"
        f"    run_jobs([['sh', '-c', {child!r}]] * 2, 1, launcher('local', '', Path({str(tmp_path)!r})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell's `&` does
    )  # fmt: skip
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    begin = time.monotonic()
    process.terminate()
    assert process.communicate(timeout=20)[1].splitlines()[-1].startswith("terminated: the same command continues")
    assert process.returncode == 143
    time.sleep(max(0.0, 4.5 - (time.monotonic() - begin)))
    assert not (tmp_path / "survived").exists()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sge", "", "LAUNCHER is 'sge', but it must be slurm, local or empty"),
        ("local", "partition", "SLURM is 'partition', but it must be KEY=VALUE pairs"),
        ("local", "partition='gpu", "must be KEY=VALUE pairs"),
        ("local", "partitoin=gpu", "SLURM='partitoin=gpu' .*partitoin"),
        ("local", "gpus_per_node=many", "does not accept SLURM=.*gpus_per_node"),
    ],
)
def test_refused_settings(tmp_path, name, settings, message):
    with pytest.raises(UserError, match=message):
        launcher(name, settings, tmp_path)


@pytest.mark.parametrize(
    "settings", ["timeout_min=1", "timeout_min=0", "timeout_min=-5", "time=1", "timeout_min=240 time=1.5",
                 "timeout_min=5 signal_delay_s=300"]
)  # fmt: skip
def test_a_time_limit_that_is_too_short(tmp_path, slurm, settings):
    with pytest.raises(UserError, match="too short.*queued again without end"):
        launcher("slurm", settings, tmp_path)


@pytest.mark.parametrize("settings", ["timeout_min=2", "time=2", "time=1-00:00:00", "timeout_min=6 signal_delay_s=300"])
def test_a_time_limit_that_is_long_enough(tmp_path, slurm, settings):
    launcher("slurm", settings, tmp_path)


def test_without_slurm_or_submitit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemFailure, match="no srun here"):
        launcher("slurm", "", tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install submitit"):
        launcher("slurm", "", tmp_path)


def test_settings():
    assert slurm_settings("") == {}
    assert slurm_settings("partition=gpu mem_gb=1.5") == {"partition": "gpu", "mem_gb": 1.5}
    assert slurm_settings("""setup='["module load cuda"]' timeout_min=60""") == {
        "setup": ["module load cuda"], "timeout_min": 60,
    }  # fmt: skip


def test_results_of_a_launcher_are_reported_one_by_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    noted = []
    (failed,) = run_jobs(COMMANDS, 1, launcher("local", "", tmp_path), noted.append)
    assert failed.endswith(": broken 2") and [ended.number for ended in noted] == [0, 1, 2]
    assert capsys.readouterr().out.splitlines()[1].startswith("[2/3] failed: broken 2 (eta ")
