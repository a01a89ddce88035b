import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fdbpl.errors import UserError
from fdbpl.runs import RunFolder, harmonic_mean, peak_memory
from fdbpl.runs.comparison import Comparison, read_rows
from fdbpl.runs.folder import config_name
from fdbpl.runs.grid import run_grid

ROOT = Path(__file__).resolve().parents[1]
CONFIG = {"OUTPUT_DIR": "here", "SEED": 1, "OPTIM": {"LR": 0.05, "MAX_EPOCH": 100}}


def finished(path, config=CONFIG, task="train"):
    folder = RunFolder(path, config, task)
    folder.start("SEED: 1\n")
    folder.finish({"accuracy": 200 / 3})
    return folder


def test_a_finished_run_is_recognised_at_full_precision_wherever_it_lies(tmp_path):
    finished(tmp_path)
    again = RunFolder(tmp_path, {**CONFIG, "OUTPUT_DIR": "elsewhere"})
    assert again.finished_metrics() == {"accuracy": 200 / 3}


def test_an_interrupted_run_is_not_finished(tmp_path):
    folder = finished(tmp_path)
    (tmp_path / "done.json").unlink()
    assert folder.finished_metrics() is None
    assert RunFolder(tmp_path / "empty", CONFIG).finished_metrics() is None


@pytest.mark.parametrize(
    ("config", "task", "sentence"),
    [
        ({**CONFIG, "OPTIM": {"LR": 0.1, "MAX_EPOCH": 100}}, "train", "OPTIM.LR 0.05 instead of 0.1"),
        ({**CONFIG, "NEW": 1}, "train", "NEW None instead of 1"),
        (CONFIG, "test", "task 'train' instead of 'test'"),
    ],
)
def test_another_run_in_the_folder_is_refused(tmp_path, config, task, sentence):
    finished(tmp_path)
    with pytest.raises(UserError, match=sentence):
        RunFolder(tmp_path, config, task).finished_metrics()


def test_the_folder_explains_itself(tmp_path):
    finished(tmp_path)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["packages"]["torch"] and record["command"] and record["config"] == CONFIG
    assert (tmp_path / "config.yaml").read_text() == "SEED: 1\n"


def test_a_new_attempt_keeps_the_old_log_aside(tmp_path):
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


def test_summary_line(tmp_path):
    for half, accuracy in (("base", 80.0), ("new", 60.004)):
        metrics = {"trainer": "FDBPL", "dataset": "demo", "seed": 3, "accuracy": accuracy}
        (tmp_path / half).mkdir()
        (tmp_path / half / "metrics.json").write_text(json.dumps(metrics))
    command = [sys.executable, "-m", "fdbpl.runs", "base2new", tmp_path / "base", tmp_path / "new"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "FDBPL demo seed3: base 80.00 new 60.00 H 68.57\n"
    run = subprocess.run([*command[:-1], tmp_path / "absent"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "Traceback" not in run.stderr and "absent" in run.stderr


def finished_pair(output, trainer, config, seed, base, new, **metrics):
    for half, accuracy in (("train_base", base), ("test_new", new)):
        folder = output / f"base2new/{half}/demo/shots_16/{trainer}/{config}/seed{seed}"
        folder.mkdir(parents=True)
        content = {"accuracy": accuracy, "parameters": 512, "steps": 10, "peak_memory_mib": {"host": 100.0 * seed},
                   "seconds": {"step": 0.5, "train": 5.0, "total": 9.0}, **metrics}  # fmt: skip
        (folder / "metrics.json").write_text(json.dumps(content))
        (folder / "done.json").write_text("{}")
    return folder


def compared(output, *rows, **settings):
    return Comparison(output, "demo", "16", ["1", "2"], read_rows(rows), **settings)


def test_a_table_takes_seeds_and_variants_together(tmp_path):
    for split, seed, base, new in [(1, 1, 80.0, 60.0), (1, 2, 90.0, 70.0), (2, 1, 70.0, 50.0), (2, 2, 60.0, 40.0)]:
        last = finished_pair(tmp_path, "CoOp", f"demo+SPLIT={split}", seed, base, new)
    whole = compared(tmp_path, "CoOp\tCoOp\tdemo\n", each="SPLIT=1,2").table().splitlines()[2:]
    h = [2 * base * new / (base + new) for base, new in ((80, 60), (90, 70), (70, 50), (60, 40))]
    expected = f"{statistics.mean(h):.2f} ± {statistics.stdev(h):.2f}"
    assert whole == [f"| CoOp | 4 | 75.00 ± 12.91 | 55.00 ± 12.91 | {expected} | 512 | 500.0 | 5.0 | 9.0 | 200 |"]
    (last / "done.json").unlink()  # an unfinished run is left out, and said to be
    assert "| CoOp | 3 of 4 |" in compared(tmp_path, "CoOp\tCoOp\tdemo\n", each="SPLIT=1,2").table()


def test_a_table_names_what_has_not_run(tmp_path):
    finished_pair(tmp_path, "FDBPL", "demo+PCD=0", 1, 50.0, 50.0, steps=0)
    rows = ["no PCD\tFDBPL\tdemo\tPCD\t0\n", "whole\tFDBPL\tdemo\n"]
    table = compared(tmp_path, *rows).table().splitlines()[2:]
    assert table[0].startswith("| no PCD | 1 of 2 | 50.00 | 50.00 | 50.00 | 512 | - |")
    assert table[1] == "| whole | 0 of 2 |" + " - |" * 8


def test_the_runs_of_a_comparison():
    rows = ["CoOp\tCoOp\tdemo\n", "FDBPL_VPT\tFDBPL_VPT\tdemo_vit\n", "FDBPL\tFDBPL\tdemo\n",
            "few\tFDBPL\tdemo\tREGIONS.PER_IMAGE\t10\n"]  # fmt: skip
    comparison = compared(Path("out"), *rows, common=("OPTIM.LR", "1"))
    runs = [" ".join(run) for run in comparison.runs()]
    assert len(runs) == len(set(runs)) == 8
    assert runs[5] == (
        "env CFG=demo_vit OUTPUT=out SHOTS=16 SUB=base bash scripts/base2new_train.sh demo 2 FDBPL_VPT OPTIM.LR 1"
    )
    banks = [" ".join(call) for call in comparison.banks()]  # one for each draw of regions and seed, by FDBPL itself
    assert len(banks) == 4 and sum("REGIONS.PER_IMAGE 10" in call for call in banks) == 2
    assert all("generate_regions.sh" in call and "FDBPL_VPT" not in call for call in banks)


@pytest.mark.parametrize("each", ["SPLIT", "SPLIT="])
def test_a_mistyped_variant_is_a_sentence(each):
    with pytest.raises(UserError, match="EACH"):
        compared(Path("out"), "CoOp\tCoOp\tdemo\n", each=each).runs()


def test_a_grid_goes_on_after_a_failure_and_names_it(capsys):
    script = "echo some; echo {n} done; test {n} != 2 || {{ echo broken {n} >&2; exit 3; }}"
    commands = [["sh", "-c", script.format(n=n)] for n in (1, 2, 3)]
    (failed,) = run_grid(commands, 2)
    assert failed.endswith(": broken 2")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith("[3/3]") and lines[-1].endswith("(eta 0:00:00)")
    assert {"1 done", "3 done"} <= {line.split("] ")[1].rsplit(" (", 1)[0] for line in lines}
    assert any("failed: broken 2" in line for line in lines)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_grid_leaves_nothing_running(tmp_path, kind):
    child = f"import time, pathlib; pathlib.Path({str(tmp_path / 'started')!r}).touch(); time.sleep(5); " \
            f"pathlib.Path({str(tmp_path / 'survived')!r}).touch()"  # fmt: skip
    code = f"from fdbpl.runs.grid import run_grid; import sys; run_grid([[sys.executable, '-c', {child!r}]] * 3, 1)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    begin = time.monotonic()
    process.send_signal(kind)
    assert "KeyboardInterrupt" in process.communicate(timeout=20)[1] and process.returncode
    assert time.monotonic() - begin < 4 and not (tmp_path / "survived").exists()
