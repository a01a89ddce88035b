import json
import subprocess
import sys
from pathlib import Path

import pytest

from fdbpl.errors import UserError
from fdbpl.runs import RunFolder, harmonic_mean, peak_memory
from fdbpl.runs.folder import config_name
from fdbpl.runs.table import base2new_pairs, markdown_table

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


def test_table_pools_splits_and_seeds(tmp_path):
    for split, seed, base, new in [(1, 1, 80.0, 60.0), (1, 2, 90.0, 70.0), (2, 1, 70.0, 50.0)]:
        for half, accuracy in (("train_base", base), ("test_new", new)):
            folder = tmp_path / f"base2new/{half}/demo/shots_16/CoOp/demo+SPLIT={split}/seed{seed}"
            folder.mkdir(parents=True)
            metrics = {"trainer": "CoOp", "dataset": "demo", "seed": seed, "accuracy": accuracy}
            (folder / "metrics.json").write_text(json.dumps(metrics))
            (folder / "done.json").write_text("{}")
    (folder / "done.json").unlink()  # an unfinished run is left out
    rows = markdown_table(base2new_pairs(tmp_path), "SPLIT").splitlines()[2:]
    assert rows == ["| demo | CoOp | demo | 2 | 85.00 ± 7.07 | 65.00 ± 7.07 | 73.67 |"]
    with pytest.raises(UserError, match="found none"):
        base2new_pairs(tmp_path / "empty")
