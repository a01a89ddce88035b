"""Run folders, lines of results, and jobs of a grid that run at the same time."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fdbpl.errors import UserError
from fdbpl.protocols.jobs import run_jobs
from fdbpl.runs import RunFolder, harmonic_mean, peak_memory
from fdbpl.runs.folder import config_name
from fdbpl.runs.results import base2new_line, few_shot_line, transfer_line

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"OUTPUT_DIR": "here", "SEED": 1, "OPTIM": {"LR": 0.05, "MAX_EPOCH": 100}}


def finished(path, config=CONFIG, task="train"):
    folder = RunFolder(path, config, task)
    folder.start("SEED: 1\n")
    folder.finish({"accuracy": 200 / 3})
    return folder


def test_a_finished_run_is_recognised_also_after_a_move(tmp_path):
    finished(tmp_path)
    again = RunFolder(tmp_path, {**CONFIG, "OUTPUT_DIR": "elsewhere"})
    assert again.finished_metrics() == {"accuracy": 200 / 3}


def test_an_interrupted_run_is_not_finished(tmp_path):
    folder = finished(tmp_path)
    (tmp_path / "done.json").unlink()
    assert folder.finished_metrics() is None
    assert RunFolder(tmp_path / "empty", CONFIG).finished_metrics() is None


@pytest.mark.parametrize(
    ("config", "task", "message"),
    [
        ({**CONFIG, "OPTIM": {"LR": 0.1, "MAX_EPOCH": 100}}, "train", "OPTIM.LR 0.05 instead of 0.1"),
        ({**CONFIG, "NEW": 1}, "train", "NEW None instead of 1"),
        (CONFIG, "test", "task 'train' instead of 'test'"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, config, task, message):
    finished(tmp_path)
    with pytest.raises(UserError, match=message):
        RunFolder(tmp_path, config, task).finished_metrics()


def test_files_of_a_run_folder(tmp_path):
    finished(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["packages"]["torch"] and record["command"] and record["config"] == CONFIG
    assert (tmp_path / "config.yaml").read_text() == "SEED: 1\n"


def test_a_new_attempt_keeps_the_old_log(tmp_path):
    (tmp_path / "log.txt").write_text("first attempt")
    (tmp_path / ".x.partial").touch()
    RunFolder(tmp_path, CONFIG).start("")
    assert not (tmp_path / "log.txt").exists()
    assert [file.read_text() for file in tmp_path.glob("log.txt-*")] == ["first attempt"]
    assert not (tmp_path / ".x.partial").exists()


def test_config_names():
    assert config_name("demo", []) == "demo"
    assert config_name("demo", ["OPTIM.LR", "0.1", "A", "b"]) == "demo+A=b+OPTIM.LR=0.1"
    odd = config_name("demo", ["DATASET.X", "a b/../c"])
    assert "/" not in odd and odd != config_name("demo", ["DATASET.X", "a b_.._c"])
    assert len(config_name("demo", ["K", "v" * 300])) < 130


def test_harmonic_mean():
    assert harmonic_mean(80, 60) == pytest.approx(2 / (1 / 80 + 1 / 60))
    assert harmonic_mean(0, 0) == 0


def test_peak_memory_is_in_mebibytes():
    assert 20 < peak_memory()["host"] < 200_000


def metrics_in(folder, **metrics):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"trainer": "FDBPL", "dataset": "demo", "seed": 3, **metrics}))
    return folder


def test_result_lines(tmp_path):
    base, new = (metrics_in(tmp_path / half, accuracy=value) for half, value in (("base", 80.0), ("new", 60.004)))
    assert base2new_line(base, new) == "FDBPL demo seed3: base 80.00 new 60.00 H 68.57"
    points = [metrics_in(tmp_path / str(k), accuracy=50 + k, protocol={"shots": k}) for k in (1, 16)]
    assert few_shot_line(points) == "FDBPL demo seed3: 1 shot 51.00 16 shots 66.00"
    tests = [metrics_in(tmp_path / name, dataset=name, accuracy=value) for name, value in (("a", 0.004), ("b", 0.007))]
    assert transfer_line(points[1], tests) == "FDBPL demo seed3 shots 16 -> a 0.00 b 0.01 average 0.01"
    assert transfer_line(points[1], tests[:1], ["c", "d"]) == ("FDBPL demo seed3 shots 16 -> a 0.00 (not tested: c, d)")
    with pytest.raises(UserError, match="absent"):
        base2new_line(base, tmp_path / "absent")


def test_a_grid_continues_after_a_failure(capsys):
    script = "echo some; echo {n} done; test {n} != 2 || {{ echo broken {n} >&2; exit 3; }}"
    commands = [["sh", "-c", script.format(n=n)] for n in (1, 2, 3)]
    (failed,) = run_jobs(commands, 2)
    assert failed.endswith(": broken 2")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("[3/3]") and lines[-1].endswith("(eta 0:00:00)")
    assert {"1 done", "3 done"} <= {line.split("] ")[1].rsplit(" (", 1)[0] for line in lines}
    assert any("failed: broken 2" in line for line in lines)


def test_a_terminal_shows_a_bar_below_the_results():
    command = "['sh', '-c', 'sleep .2; echo result of ' + n]"
    code = f"from fdbpl.protocols.jobs import run_jobs; run_jobs([{command} for n in 'ab'], 1)"
    here, there = os.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=there, stderr=there, check=True)
    os.close(there)
    shown = b""
    with suppress(OSError), open(here, "rb", buffering=0) as terminal:
        while piece := terminal.read(1024):
            shown += piece
    lines = [line.strip() for line in re.split(r"[\r\n]+|\x1b\[A", shown.decode())]
    assert [line for line in lines if line.startswith("result")] == ["result of a", "result of b"]
    assert any(re.match(r"50%.*1/2 ", line) for line in lines) and not any("eta" in line for line in lines)


@pytest.mark.parametrize(("kind", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_an_interrupted_grid_leaves_nothing_running(tmp_path, kind, word):
    child = f"import time, pathlib; pathlib.Path({str(tmp_path / 'started')!r}).touch(); time.sleep(5); " \
            f"pathlib.Path({str(tmp_path / 'survived')!r}).touch()"  # fmt: skip
    code = (
        "import sys; from fdbpl.errors import cli_error_handler; from fdbpl.protocols.jobs import run_jobs\n"
        f"with cli_error_handler(): run_jobs([[sys.executable, '-c', {child!r}]] * 3, 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    begin = time.monotonic()
    process.send_signal(kind)
    assert process.communicate(timeout=20)[1].startswith(f"\n{word}: the same command continues")
    assert process.returncode == 128 + kind
    assert time.monotonic() - begin < 4 and not (tmp_path / "survived").exists()
