import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fdbpl.runs.__main__ as runs
from fdbpl.errors import MachineError, UserError
from fdbpl.runs.comparison import Comparison, banks, read_rows
from fdbpl.runs.grid import Ended
from fdbpl.runs.grid_record import GridRecord

ROOT = Path(__file__).resolve().parents[2]


def row(label="CoOp", trainer="CoOp", config="demo", *overrides, dataset="demo", targets=""):
    return "\t".join([dataset, targets, label, trainer, f"configs/trainers/X/{config}.yaml", *overrides]) + "\n"


def compared(output, *rows, protocol="base2new", seeds=("1", "2"), **settings):
    return Comparison(protocol, output, read_rows(rows), seeds, **settings)


def finish(folder: Path, accuracy: float, seed: int = 1, **metrics) -> Path:
    folder.mkdir(parents=True)
    content = {"accuracy": accuracy, "parameters": 512, "steps": 10, "peak_memory_mib": {"host": 100.0 * seed},
               "seconds": {"step": 0.5, "train": 5.0, "total": 9.0}, **metrics}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(content))
    (folder / "done.json").write_text("{}")
    return folder


def finish_pair(output, trainer, config, seed, base, new, **metrics):
    for half, accuracy in (("train_base", base), ("test_new", new)):
        run = output / f"base2new/{half}/demo/shots_16/{trainer}/{config}/seed{seed}"
        finish(run, accuracy, seed, **metrics)
    return run


def test_the_runs_of_a_comparison():
    rows = [row(), row("FDBPL_VPT", "FDBPL_VPT", "demo_vit"), row("FDBPL", "FDBPL"),
            row("few", "FDBPL", "demo", "REGIONS.PER_IMAGE", "10"), row()]  # fmt: skip
    comparison = compared(Path("out"), *rows, common=("OPTIM.LR", "1"), seeds=("1", "2", "1"))
    calls = [" ".join(cell.call()) for cell in comparison.cells]
    assert len(calls) == len(set(calls)) == 8  # what is typed twice runs once
    assert calls[5] == "env CFG=demo_vit OUTPUT=out SHOTS=16 bash scripts/base2new_train.sh demo 2 FDBPL_VPT OPTIM.LR 1"
    made = [" ".join(call) for call in banks(comparison.cells)]  # one for each draw of regions and seed, by FDBPL
    assert len(made) == 4 and sum("REGIONS.PER_IMAGE 10" in call for call in made) == 2
    assert all("SUB=base bash scripts/generate_regions.sh" in call and "FDBPL_VPT" not in call for call in made)


def test_the_runs_of_a_transfer_and_the_banks_of_each_number_of_shots():
    (cell,) = compared(Path("out"), row(targets="a b"), protocol="cross_dataset", seeds=["3"]).cells
    assert cell.call() == ["env", "CFG=demo", "OUTPUT=out", "SHOTS=16", "TARGETS=a b", "bash",
                           "scripts/cross_dataset.sh", "demo", "3", "CoOp"]  # fmt: skip
    assert cell.folders[2] == Path("out/evaluation/b/demo/shots_16/CoOp/demo/seed3")
    points = compared(Path("out"), row("FDBPL", "FDBPL"), protocol="few_shot", seeds=["1"], shots=("1", "4"))
    assert [call[3] for call in banks(points.cells)] == ["SHOTS=1", "SHOTS=4"]
    assert all("SUB=all" in call for call in banks(points.cells))
    assert banks(compared(Path("out"), row()).cells) == []


def test_a_cell_is_finished_until_something_it_was_made_from_is_newer(tmp_path):
    config = tmp_path / "demo.yaml"
    config.touch()
    line = row().replace("configs/trainers/X/demo.yaml", str(config))
    (cell,) = compared(tmp_path, line, seeds=["1"]).cells
    assert not cell.finished
    finish_pair(tmp_path, "CoOp", "demo", 1, 80.0, 60.0)
    now = config.stat().st_mtime + 1000
    for place, folder in enumerate(cell.folders):
        os.utime(folder / "done.json", (now + place, now + place))
    assert cell.finished
    os.utime(config, (now + 5, now + 5))  # the run itself must say whether it still holds
    assert not cell.finished
    os.utime(config, (now - 5, now - 5))
    os.utime(cell.folders[0] / "done.json", (now + 9, now + 9))  # trained again, not tested again
    assert not cell.finished


def test_own_pictures_are_called_as_their_folder_is(tmp_path):
    (cell,) = compared(tmp_path, row(dataset="folder:my_photos"), protocol="few_shot", seeds=["1"]).cells
    finish(cell.folders[0], 50.0)
    assert cell.folders[0] == tmp_path / "train_all/my_photos/shots_16/CoOp/demo/seed1"
    assert cell.call()[-3:] == ["folder", "1", "CoOp"]
    assert not cell.finished  # they may have changed: the run says
    GridRecord(tmp_path).update([cell], "done")
    assert cells_of(tmp_path)[0]["dataset"] == "my_photos"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"each": "SPLIT"}, "as EACH"),
        ({"each": "SPLIT="}, "as EACH"),
        ({"seeds": ("1", "two")}, "whole numbers .* as SEEDS, found 'two'"),
        ({"shots": ("1", "-2"), "protocol": "few_shot"}, "whole numbers .* as SHOTS .*, found '-2'"),
        ({"shots": ("1", "2")}, "one number of shots for base2new, found 2"),
    ],
)
def test_mistakes_are_sentences(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        compared(Path("out"), row(), **settings)


def cells_of(path):
    return json.loads((path / "grid.json").read_text())["cells"]


def test_the_record_of_a_grid_is_merged(tmp_path):
    cells = compared(tmp_path, row(targets="a"), protocol="cross_dataset").cells
    GridRecord(tmp_path).update(cells, "planned")
    GridRecord(tmp_path).update(cells[:1], "failed", "no disk")
    GridRecord(tmp_path).update(compared(tmp_path, row("other"), protocol="few_shot", seeds=["1"]).cells, "done")
    (again,) = compared(tmp_path, row(targets="b"), protocol="cross_dataset", seeds=["2"]).cells
    GridRecord(tmp_path).update([again], "done")
    first, second, third = cells_of(tmp_path)
    assert first == {
        "protocol": "cross_dataset", "label": "CoOp", "trainer": "CoOp", "config": "demo", "dataset": "demo",
        "targets": ["a"], "shots": 16, "seed": 1, "status": "failed", "reason": "no disk", "each": "",
    }  # fmt: skip
    assert (second["seed"], second["status"], second["targets"]) == (2, "done", ["a", "b"])
    assert (third["protocol"], third["label"], third["status"]) == ("few_shot", "other", "done")


def test_grids_at_the_same_time_lose_no_cell(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fdbpl.runs.comparison import *;"
        "from fdbpl.runs.grid_record import GridRecord\n"
        "for seed in range(20):\n"
        "    rows = read_rows([f'demo\\t\\t{sys.argv[1]}\\t{sys.argv[1]}\\tdemo.yaml'])\n"
        "    GridRecord(Path(sys.argv[2])).update(Comparison('base2new', Path(), rows, [str(seed)]).cells, 'done')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name, tmp_path], cwd=ROOT) for name in "ABC"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(cells_of(tmp_path)) == 60


def test_a_record_that_cannot_be_kept_is_a_sentence(tmp_path):
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(UserError, match="expected the record of a grid at"):
        GridRecord(tmp_path).update([], "done")
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot write"):
        GridRecord(tmp_path / "file").update([], "done")


@pytest.mark.parametrize(("codes", "expected"), [((2, 2), 2), ((0, 2), 2), ((2, 1), 1), ((-9, 2), 1), ((3, 3), 1)])
def test_a_grid_ends_with_the_code_of_the_runs_that_failed(tmp_path, monkeypatch, capsys, codes, expected):
    """2 where all of them failed by the user's input."""

    def launch(commands, jobs):
        for number, code in enumerate(codes[: len(commands)]):
            yield Ended(number, code, f"ended with {code}")

    words = ["compare", "--output", str(tmp_path), "--seeds", "1 2"]
    monkeypatch.setattr(sys, "argv", ["fdbpl.runs", *words])
    monkeypatch.setattr(sys, "stdin", io.StringIO(row()))
    monkeypatch.setattr(runs, "launcher", lambda *settings: launch)
    with pytest.raises(SystemExit) as ended:
        runs.main()
    failed = sum(code != 0 for code in codes)
    assert ended.value.code == expected and f"found {failed} that did not" in capsys.readouterr().err
