import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fdbpl.runs.__main__ as runs
from fdbpl.errors import SystemFailure, UserError
from fdbpl.protocols.grid import Grid, banks, read_rows
from fdbpl.protocols.grid_record import GridRecord
from fdbpl.protocols.jobs import JobResult

ROOT = Path(__file__).resolve().parents[2]


def row(label="CoOp", trainer="CoOp", config="demo", *overrides, dataset="demo", targets=""):
    return "\t".join([dataset, targets, label, trainer, f"configs/trainers/X/{config}.yaml", *overrides]) + "\n"


def compared(output, *rows, protocol="base2new", seeds=("1", "2"), **settings):
    return Grid(protocol, output, read_rows(rows), seeds, **settings)


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
        ({"seeds": ("01",)}, "as SEEDS, found '01'"),
        ({"shots": ("0",), "protocol": "few_shot"}, "as SHOTS .*found '0'"),
        ({"shots": ("1", "2")}, "one number of shots for base2new, found 2"),
    ],
)
def test_mistakes_are_sentences(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        compared(Path("out"), row(), **settings)


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (("DATASET.SUBSAMPLE_CLASSES", "all"), "LEARN=all"),
        (("DATASET.NUM_SHOTS", "4"), "SHOTS"),
        (("OPTIM.LR", "1", "SEED", "2"), "argument SEED"),
        (("TRAINER.NAME", "FDBPL"), "argument TRAINER"),
        (("DATASET.NAME", "Caltech101"), "argument DATASET"),
        (("TEST.SPLIT", "val"), "train.py"),
        (("TEST.NO_TEST", "True"), "accuracy of its tests"),
        (("OUTPUT_DIR", "here"), "OUTPUT"),
        (("DATASET.ROOT", "here"), "DATA"),
        (("RESUME", "here"), "--resume"),
    ],
)
def test_what_a_protocol_sets_is_no_override(overrides, advice):
    """Neither for all rows, nor of one row, nor as values to run through."""
    for arguments in (
        {"common": overrides}, {"each": f"{overrides[-2]}={overrides[-1]},{overrides[-1]}"},
        {"row": row("few", "CoOp", "demo", *overrides)},
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"{overrides[-2]} is set by the protocol.*{advice}"):
            compared(Path("out"), arguments.pop("row", row()), **arguments)


def specific(protocol, trainer="CoOp", config="demo", targets="", dataset="demo", *overrides):
    line = row(trainer, trainer, config, *overrides, targets=targets, dataset=dataset)
    return compared(Path("out"), line, protocol=protocol, seeds=["1"])


CSC = ("TRAINER.COOP.CSC", "True")


@pytest.mark.parametrize(
    ("protocol", "dataset", "targets"),
    [
        ("base2new", "demo", ""), ("base2new_all", "demo", ""), ("cross_dataset", "demo", "demo_colours"),
        ("domain_generalization", "imagenet", "imagenet_sketch imagenet_r"),
    ],
)  # fmt: skip
def test_class_specific_contexts_are_refused_where_other_classes_are_tested(protocol, dataset, targets):
    with pytest.raises(UserError, match=r"TRAINER.COOP.CSC True .* serves these classes only.*Set .* False"):
        specific(protocol, "CoOp_KDPL", "demo", targets, dataset, *CSC)


@pytest.mark.parametrize(
    ("protocol", "dataset", "targets"),
    [("few_shot", "demo", ""), ("domain_generalization", "imagenet", "imagenetv2 imagenet_sketch")],
)
def test_class_specific_contexts_serve_the_same_classes(protocol, dataset, targets):
    assert specific(protocol, "CoOp", "demo", targets, dataset, *CSC).cells
    assert specific("base2new", "KgCoOp", "demo", "", "demo", *CSC).cells  # CoOp's setting says nothing of KgCoOp


def test_class_specific_contexts_of_a_file_are_refused(tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text("TRAINER:\n  FDBPL:\n    CSC: True\n")
    line = row("FDBPL", "FDBPL").replace("configs/trainers/X/demo.yaml", str(config))
    with pytest.raises(UserError, match="TRAINER.FDBPL.CSC True"):
        compared(tmp_path, line)


@pytest.mark.parametrize(
    ("targets", "sentence"),
    [("demo_colours demo_colours", "demo_colours twice"), ("demo_colours demo", "demo, the data set")],
)
def test_a_target_is_neither_the_source_nor_named_twice(targets, sentence):
    with pytest.raises(UserError, match=f"TARGETS contains {sentence}"):
        compared(Path("out"), row(targets=targets), protocol="cross_dataset")


def printed_steps(capsys, monkeypatch, *words) -> list[list[str]]:
    monkeypatch.setattr(sys, "argv", ["fdbpl.runs", "steps", "--dataset", "demo", "--trainer", "FDBPL", *words])
    runs.main()
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_the_steps_of_each_protocol(capsys, monkeypatch, tmp_path):
    """The training's region bank while the training is not finished; every test names its training."""
    common = ("--config-file", "x/demo.yaml", "--output", str(tmp_path), "--seeds", "1")
    steps = printed_steps(capsys, monkeypatch, *common, "--shots", "16", "OPTIM.LR", "1")
    run = "demo/shots_16/FDBPL/demo+OPTIM.LR=1/seed1"
    base = f"base2new/train_base/{run}"
    assert steps == [["bank", "16", "demo", "base", base, "-"], ["train", "16", "demo", "base", base, "-"],
                     ["test", "16", "demo", "new", f"base2new/test_new/{run}", base]]  # fmt: skip
    finish(tmp_path / base, 80.0)
    steps = printed_steps(capsys, monkeypatch, *common, "--shots", "16", "OPTIM.LR", "1")
    assert [kind for kind, *_ in steps] == ["train", "test"]

    steps = printed_steps(capsys, monkeypatch, *common, "--shots=-1", "--protocol", "base2new_all")
    run = "demo/shots_-1/FDBPL/demo/seed1"
    assert [step[3:] for step in steps[1:]] == [
        ["all", f"train_all/{run}", "-"], ["base", f"base2new_all/test_base/{run}", f"train_all/{run}"],
        ["new", f"base2new_all/test_new/{run}", f"train_all/{run}"],
    ]  # fmt: skip
    words = ("--protocol", "cross_dataset", "--targets", "demo_colours folder:mine")
    steps = printed_steps(capsys, monkeypatch, *common, "--shots=-1", *words)
    assert [(step[2], step[4]) for step in steps[2:]] == [
        ("demo_colours", f"evaluation/demo_colours/{run}"), ("folder", f"evaluation/mine/{run}")
    ]  # fmt: skip
    steps = printed_steps(capsys, monkeypatch, *common, "--shots", "1 -1", "--protocol", "few_shot")
    assert [step[:2] for step in steps] == [["bank", "1"], ["train", "1"], ["bank", "-1"], ["train", "-1"]]


def test_the_steps_of_a_test_of_an_epoch(capsys, monkeypatch, tmp_path):
    common = ("--config-file", "x/demo.yaml", "--output", str(tmp_path), "--seeds", "1", "--half=new", "--epoch=2")
    run = tmp_path / "base2new/train_base/demo/shots_16/FDBPL/demo/seed1"

    def refused(sentence):
        with pytest.raises(SystemExit):
            printed_steps(capsys, monkeypatch, *common)
        assert sentence in capsys.readouterr().err

    refused("There is no training run in")
    (run / "prompt_learner").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    for name in ("checkpoint", "model.pth.tar-3"):
        (run / "prompt_learner" / name).touch()
    refused("holds no weights of epoch 2, only of 3")
    (run / "prompt_learner/model.pth.tar-2").touch()
    ((kind, _, _, half, folder, _),) = printed_steps(capsys, monkeypatch, *common)
    assert (kind, half) == ("test", "new") and folder.startswith("base2new/test_new_epoch2/demo/")


def test_a_grid_that_learns_from_all_classes_calls_its_script_so(tmp_path):
    (cell,) = compared(tmp_path, row("FDBPL", "FDBPL"), protocol="base2new_all", seeds=["1"], shots=("-1",)).cells
    assert "LEARN=all" in cell.call() and cell.call()[-4:-2] == ["scripts/base2new_train.sh", "demo"]
    assert cell.folders[0] == tmp_path / "train_all/demo/shots_-1/FDBPL/demo/seed1" and len(cell.folders) == 3
    assert "SUB=all" in banks([cell])[0] and cell.key[0] == "base2new_all"


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
        "import sys; from pathlib import Path; from fdbpl.protocols.grid import *;"
        "from fdbpl.protocols.grid_record import GridRecord\n"
        "for seed in range(20):\n"
        "    rows = read_rows([f'demo\\t\\t{sys.argv[1]}\\t{sys.argv[1]}\\tdemo.yaml'])\n"
        "    GridRecord(Path(sys.argv[2])).update(Grid('base2new', Path(), rows, [str(seed)]).cells, 'done')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name, tmp_path], cwd=ROOT) for name in "ABC"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(cells_of(tmp_path)) == 60


def test_a_record_that_cannot_be_kept_is_a_sentence(tmp_path):
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(UserError, match="expected the record of a grid at"):
        GridRecord(tmp_path).update([], "done")
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match="cannot write"):
        GridRecord(tmp_path / "file").update([], "done")


@pytest.mark.parametrize(("codes", "expected"), [((2, 2), 2), ((0, 2), 2), ((2, 1), 1), ((-9, 2), 1), ((3, 3), 1)])
def test_a_grid_ends_with_the_code_of_the_runs_that_failed(tmp_path, monkeypatch, capsys, codes, expected):
    """2 where all of them failed by the user's input."""

    def launch(commands, jobs):
        for number, code in enumerate(codes[: len(commands)]):
            yield JobResult(number, code, f"ended with {code}")

    words = ["compare", "--output", str(tmp_path), "--seeds", "1 2"]
    monkeypatch.setattr(sys, "argv", ["fdbpl.runs", *words])
    monkeypatch.setattr(sys, "stdin", io.StringIO(row()))
    monkeypatch.setattr(runs, "launcher", lambda *settings: launch)
    with pytest.raises(SystemExit) as ended:
        runs.main()
    failed = sum(code != 0 for code in codes)
    assert ended.value.code == expected and f"found {failed} that did not" in capsys.readouterr().err
