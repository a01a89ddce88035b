"""`python -m fdbpl.runs verify`: run folders, their done marker and checksums."""

import json
import sys
from pathlib import Path

import pytest

from fdbpl.runs import RunFolder
from fdbpl.runs.__main__ import main


@pytest.fixture
def run(tmp_path) -> Path:
    folder = RunFolder(tmp_path / "run", {"OPTIM": {"LR": 0.1}})
    folder.start("OPTIM:\n  LR: 0.1\n")
    (folder.path / "prompt_learner").mkdir()
    (folder.path / "prompt_learner" / "checkpoint").write_text("model.pth.tar-2")
    (folder.path / "prompt_learner" / "model.pth.tar-2").write_bytes(bytes(100))
    folder.finish({"accuracy": 80.0})
    return folder.path


@pytest.fixture
def verify(monkeypatch, capsys):
    def verify(*places: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["fdbpl.runs", "verify", *map(str, places)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return verify


def change(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_consistent_run(run, verify):
    assert verify(run.parent) == (0, f"ok    {run}: 3 checksums match, accuracy 80.00\n")
    (run / "done.json").unlink()
    assert verify(run) == (0, f"ok    {run}: not finished yet\n")


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "prompt_learner/model.pth.tar-2"])
def test_a_changed_or_missing_file(run, verify, name):
    content = bytearray((run / name).read_bytes())
    content[-1] ^= 1
    (run / name).write_bytes(content)
    code, said = verify(run)
    assert code == 1 and f"WRONG {run}: " in said
    (run / name).unlink()
    code, said = verify(run)
    assert code == 1 and Path(name).name in said


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("run.json", {"config": {"OPTIM": {"LR": 0.5}}}, "does not match its fingerprint"),
        ("run.json", {"config": []}, "config"),
        ("done.json", {"fingerprint": "f" * 64}, "belong to different runs"),
        ("metrics.json", {"accuracy": "high"}, "accuracy"),
    ],
)
def test_records_that_contradict_each_other(run, verify, file, values, message):
    change(run / file, **values)
    code, said = verify(run)
    assert code == 1 and message in said


def test_a_test_on_validation_images_is_noted(run, verify):
    change(run / "metrics.json", tested={"split": "val"})
    done = json.loads((run / "done.json").read_text())
    del done["sha256"]  # as old versions left it
    (run / "done.json").write_text(json.dumps(done))
    code, said = verify(run)
    assert code == 0 and "0 checksums" in said and "note  " in said and "validation images" in said


def test_a_place_without_runs(verify, tmp_path):
    code, said = verify(tmp_path / "nowhere")
    assert code == 2 and "There is no folder" in said
    code, said = verify(tmp_path)
    assert code == 2 and "There are no run folders" in said
