"""Grids: cells, calls of scripts, region banks, checks of settings, the record and the exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fdbpl.errors import SystemFailure, UserError
from fdbpl.protocols import grids
from fdbpl.protocols.grid import Grid, Row, banks
from fdbpl.protocols.grid_record import GridRecord
from fdbpl.protocols.jobs import JobResult

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def project_folder(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("OUTPUT", "DATA", "STUDENT", "CFG", "SHOTS", "TARGETS", "LEARN", "JOBS", "EACH", "LAUNCHER", "SLURM"):
        monkeypatch.delenv(name, raising=False)


def row(label="CoOp", trainer="CoOp", config="demo", *overrides, dataset="demo", targets="", own="", file=None) -> Row:
    file = file or Path(f"configs/trainers/X/{config}.yaml")
    return Row(dataset, tuple(targets.split()), label, trainer, file, overrides, own)


def compared(output, *rows, protocol="base2new", seeds=("1", "2"), **settings):
    return Grid(protocol, output, rows, seeds, **settings)


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


def test_runs_of_a_comparison():
    rows = [row(), row("FDBPL_VPT", "FDBPL_VPT", "demo_vit"), row("FDBPL", "FDBPL"),
            row("few", "FDBPL", "demo", "REGIONS.PER_IMAGE", "10"),
            row("two", "FDBPL", "demo", "TEACHER.SECOND.NAME", "ViT-B/32")]  # fmt: skip
    comparison = compared(Path("out"), *rows, common=("OPTIM.LR", "1"), seeds=("1", "2", "1"))
    calls = [" ".join(cell.call()) for cell in comparison.cells]
    assert len(calls) == len(set(calls)) == 10  # a seed that is named twice runs once
    assert calls[6] == "env CFG=demo_vit OUTPUT=out SHOTS=16 bash scripts/base2new_train.sh demo 2 FDBPL_VPT OPTIM.LR 1"
    made = [" ".join(call) for call in banks(comparison.cells)]  # by FDBPL
    assert len(made) == 6 and sum("REGIONS.PER_IMAGE 10" in call for call in made) == 2
    assert sum("TEACHER.SECOND.NAME ViT-B/32" in call for call in made) == 2
    assert all("SUB=base bash scripts/generate_regions.sh" in call and "FDBPL_VPT" not in call for call in made)


def test_runs_of_a_transfer_and_banks_of_each_number_of_shots():
    (cell,) = compared(Path("out"), row(targets="a b"), protocol="cross_dataset", seeds=["3"]).cells
    assert cell.call() == ["env", "CFG=demo", "OUTPUT=out", "SHOTS=16", "TARGETS=a b", "bash",
                           "scripts/cross_dataset.sh", "demo", "3", "CoOp"]  # fmt: skip
    assert cell.folders[2] == Path("out/evaluation/b/demo/shots_16/CoOp/demo/seed3")
    points = compared(Path("out"), row("FDBPL", "FDBPL"), protocol="few_shot", seeds=["1"], shots=("1", "4"))
    assert [call[3] for call in banks(points.cells)] == ["SHOTS=1", "SHOTS=4"]
    assert all("SUB=all" in call for call in banks(points.cells))
    assert banks(compared(Path("out"), row()).cells) == []


def test_a_cell_is_not_finished_if_its_files_are_newer(tmp_path):
    config = tmp_path / "demo.yaml"
    config.touch()
    (cell,) = compared(tmp_path, row(file=config), seeds=["1"]).cells
    assert not cell.finished
    finish_pair(tmp_path, "CoOp", "demo", 1, 80.0, 60.0)
    now = config.stat().st_mtime + 1000
    for place, folder in enumerate(cell.folders):
        os.utime(folder / "done.json", (now + place, now + place))
    assert cell.finished
    os.utime(config, (now + 5, now + 5))  # train.py compares the configuration
    assert not cell.finished
    os.utime(config, (now - 5, now - 5))
    os.utime(cell.folders[0] / "done.json", (now + 9, now + 9))  # trained again, not tested again
    assert not cell.finished


def test_own_images_are_named_after_their_folder(tmp_path):
    (cell,) = compared(tmp_path, row(dataset="folder", own="my_photos"), protocol="few_shot", seeds=["1"]).cells
    finish(cell.folders[0], 50.0)
    assert cell.folders[0] == tmp_path / "train_all/my_photos/shots_16/CoOp/demo/seed1"
    assert cell.call()[-3:] == ["folder", "1", "CoOp"]
    assert not cell.finished  # the images may have changed: train.py compares them
    GridRecord(tmp_path).update([cell], "done")
    assert cells_of(tmp_path)[0]["dataset"] == "my_photos"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"each": "SPLIT"}, "EACH is .* must be KEY=VALUE,VALUE"),
        ({"each": "SPLIT="}, "EACH is .* must be KEY=VALUE,VALUE"),
        ({"seeds": ("1", "two")}, "SEEDS has 'two', which is not a whole number"),
        ({"shots": ("1", "-2"), "protocol": "few_shot"}, "SHOTS has '-2', which is not a whole number"),
        ({"seeds": ("01",)}, "SEEDS has '01', which is not a whole number without leading zeros"),
        ({"shots": ("0",), "protocol": "few_shot"}, "SHOTS has '0', which is not"),
        ({"shots": ("1", "2")}, "SHOTS has 2 numbers, but base2new takes one"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(UserError, match=message):
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
def test_keys_of_the_protocol_cannot_be_overridden(overrides, advice):
    """In overrides of all rows, of one row, and in EACH."""
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
def test_class_specific_contexts_are_refused_if_other_classes_are_tested(protocol, dataset, targets):
    with pytest.raises(UserError, match=r"TRAINER.COOP.CSC True .* serves these classes only.*Set .* False"):
        specific(protocol, "CoOp_KDPL", "demo", targets, dataset, *CSC)


@pytest.mark.parametrize(
    ("protocol", "dataset", "targets"),
    [("few_shot", "demo", ""), ("domain_generalization", "imagenet", "imagenetv2 imagenet_sketch")],
)
def test_class_specific_contexts_serve_the_same_classes(protocol, dataset, targets):
    assert specific(protocol, "CoOp", "demo", targets, dataset, *CSC).cells
    assert specific("base2new", "KgCoOp", "demo", "", "demo", *CSC).cells  # a setting of CoOp does not apply to KgCoOp


def test_class_specific_contexts_of_a_file_are_refused(tmp_path):
    config = tmp_path / "own.yaml"
    config.write_text("TRAINER:\n  FDBPL:\n    CSC: True\n")
    with pytest.raises(UserError, match="TRAINER.FDBPL.CSC True"):
        compared(tmp_path, row("FDBPL", "FDBPL", file=config))


@pytest.mark.parametrize(
    ("targets", "message"),
    [("demo_colours demo_colours", "demo_colours twice"), ("demo_colours demo", "demo, the data set")],
)
def test_targets_that_repeat_or_equal_the_source(targets, message):
    with pytest.raises(UserError, match=f"TARGETS contains {message}"):
        compared(Path("out"), row(targets=targets), protocol="cross_dataset")


def test_a_grid_of_trainings_on_all_classes(tmp_path):
    (cell,) = compared(tmp_path, row("FDBPL", "FDBPL"), protocol="base2new_all", seeds=["1"], shots=("-1",)).cells
    assert "LEARN=all" in cell.call() and cell.call()[-4:-2] == ["scripts/base2new_train.sh", "demo"]
    assert cell.folders[0] == tmp_path / "train_all/demo/shots_-1/FDBPL/demo/seed1" and len(cell.folders) == 3
    assert "SUB=all" in banks([cell])[0] and cell.key[0] == "base2new_all"


def cells_of(path):
    return json.loads((path / "grid.json").read_text())["cells"]


def test_records_of_grids_are_merged(tmp_path):
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


def test_concurrent_grids_lose_no_cell(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fdbpl.protocols.grid import *;"
        "from fdbpl.protocols.grid_record import GridRecord\n"
        "for seed in range(20):\n"
        "    rows = [Row('demo', (), sys.argv[1], sys.argv[1], Path('demo.yaml'))]\n"
        "    GridRecord(Path(sys.argv[2])).update(Grid('base2new', Path(), rows, [str(seed)]).cells, 'done')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name, tmp_path], cwd=ROOT) for name in "ABC"]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(cells_of(tmp_path)) == 60


def test_a_record_that_cannot_be_read_or_written(tmp_path):
    (tmp_path / "grid.json").write_text("{")
    with pytest.raises(UserError, match="the record of a grid"):
        GridRecord(tmp_path).update([], "done")
    (tmp_path / "file").touch()
    with pytest.raises(SystemFailure, match="cannot write"):
        GridRecord(tmp_path / "file").update([], "done")


@pytest.mark.parametrize(("codes", "expected"), [((2, 2), 2), ((0, 2), 2), ((2, 1), 1), ((-9, 2), 1), ((3, 3), 1)])
def test_exit_code_of_a_grid_with_failed_runs(tmp_path, monkeypatch, codes, expected):
    """2 if all of them failed because of the user's input."""

    def launch(commands, jobs):
        for number, code in enumerate(codes[: len(commands)]):
            yield JobResult(number, code, f"ended with {code}")

    monkeypatch.setenv("OUTPUT", str(tmp_path))
    monkeypatch.setattr(grids, "launcher", lambda *settings: launch)
    with pytest.raises((UserError, SystemFailure), match=f"{sum(code != 0 for code in codes)} runs failed") as ended:
        grids.compare(["demo", "1 2", "CoOp"])
    assert ended.value.exit_code == expected


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        (["few_shots", "demo"], {}, "few_shots.*neither a protocol .*nor a data set"),
        (["few_shot", "demo dmeo"], {}, "'dmeo' is not a data set"),
        (["demo", "one"], {}, "SEEDS.*'one'"),
        (["demo", "1 -2"], {}, "SEEDS.*'-2'"),
        (["few_shot", "demo", "1", "CoOp"], {"SHOTS": "1 x"}, "SHOTS.*'x'"),
        (["demo", "1", "CoOp"], {"SHOTS": "1 2"}, "SHOTS has 2 numbers"),
        (["demo", "1", "CoOp"], {"JOBS": "two"}, "JOBS.*'two'"),
        (["demo", "1", "CoOp"], {"JOBS": "0"}, "JOBS.*'0'"),
        (["demo", "1", "CoOp"], {"EACH": "OPTIM.LR"}, "EACH"),
        (["demo", "1", "CoOp"], {"EACH": "OPTIM.LR="}, "EACH"),
        (["demo", "1", "CoOp"], {"LAUNCHER": "sge"}, "LAUNCHER.*'sge'"),
        (["demo", "1", "CoOp"], {"LAUNCHER": "local", "SLURM": "gpu"}, "SLURM"),
        (["demo", "1", "CoOp", "OPTIM.LR"], {}, "KEY VALUE"),
        (["cross_dataset", "dtd", "1", "CoOp"], {"STUDENT": "rn50"}, "TARGETS.*dtd"),
        (["demo dtd", "1"], {"FDBPL_CLIP_CACHE": "/none"}, "missing ./none/ViT-B-32.pt.*STUDENT=demo"),
        (["few_shot", "demo"], {"LEARN": "all"}, "LEARN .*few_shot"),
        (["demo", "1", "CoOp FDBPL", "SEED", "2"], {}, "SEED is set by the protocol"),
        (["demo", "1", "CoOpp"], {}, "'CoOpp' is not a trainer"),
        (["cross_dataset", "demo", "1", "CoOp"], {"TARGETS": "folder", "IMAGES": "x"}, "cannot test on own images"),
    ],
)
def test_wrong_settings_of_a_grid(tmp_path, monkeypatch, words, variables, message):
    for name, value in {"OUTPUT": str(tmp_path / "output"), **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        grids.compare(words)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [(["base2old"], {}, "'base2old' is not a protocol"), ([], {"STUDENT": "vit_x"}, "STUDENT 'vit_x'")],
)
def test_wrong_settings_of_the_grid_of_the_paper(monkeypatch, words, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        grids.paper(words)


def plan_of(capsys, monkeypatch, command, words, **variables) -> tuple[list[str], list[str]]:
    """Lines of a plan: the commands, and the others."""
    for name, value in {"DRY_RUN": "1", **variables}.items():
        monkeypatch.setenv(name, value)
    assert command(words) == 0
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("  ")], [line for line in lines if not line.startswith("  ")]


def test_rows_of_the_ablation(capsys, monkeypatch, tmp_path):
    settings = {"STUDENT": "demo", "EACH": "DATASET.DEMO.CLASS_SPLIT=1,2", "OUTPUT": str(tmp_path / "output")}
    calls, lines = plan_of(capsys, monkeypatch, grids.ablation, ["demo", "1"], **settings)
    assert lines[0].startswith("base2new: 14 runs (7 rows, data sets demo, seeds 1, shots 16), 0 done, 14 to do")
    assert len([call for call in calls if call.endswith("demo 1 FDBPL DATASET.DEMO.CLASS_SPLIT 2")]) == 1
    assert len([call for call in calls if "TRAINER.FDBPL.PCD_WEIGHT 0" in call]) == 6
    assert not (tmp_path / "output").exists()


def test_rows_of_a_file(capsys, monkeypatch, tmp_path):
    """A row may have a trainer of its own."""
    file = tmp_path / "rows.yaml"
    file.write_text(
        '"{trainer}": ""\nteacher in the loop: CoOp_KDPL OPTIM.LR 0.1\nlarge regions: REGIONS.SCALE "(0.5, 1.0)"\n'
    )
    settings = {"STUDENT": "demo", "ROWS": str(file), "OUTPUT": str(tmp_path / "output")}
    calls, lines = plan_of(
        capsys, monkeypatch, grids.ablation, ["few_shot", "demo", "1", "FDBPL"], SHOTS="1", **settings
    )
    assert lines[0].startswith("few_shot: 3 runs (3 rows")
    assert [call.split(" demo ")[1] for call in calls] == [
        "1 FDBPL", "1 CoOp_KDPL OPTIM.LR 0.1", "1 FDBPL REGIONS.SCALE '(0.5, 1.0)'"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "not a file of configs/ablations. Choose from"),
        ("row: 3", "row 'row' of"),
        ('row: "OPTIM.LR \'x"', "row 'row' of"),
        ("- row", "must contain KEY: VALUE pairs"),
    ],
)
def test_wrong_rows(monkeypatch, tmp_path, content, found):
    monkeypatch.setenv("ROWS", str(tmp_path / "rows.yaml") if content else "part")
    if content:
        (tmp_path / "rows.yaml").write_text(content)
    with pytest.raises(UserError, match=found):
        grids.ablation(["demo", "1"])


def test_the_grid_of_the_paper(capsys, monkeypatch, tmp_path):
    settings = {"STUDENT": "rn50", "DATASETS": "dtd", "OUTPUT": str(tmp_path / "output")}
    calls, lines = plan_of(capsys, monkeypatch, grids.paper, ["base2new cross_dataset"], **settings)
    heads = [line.split(" (")[0] for line in lines if " runs (" in line]
    assert heads == ["base2new: 21 runs", "cross_dataset: 21 runs"]
    assert sum(" scripts/base2new_train.sh dtd 3 FDBPL_CoCoOp" in call for call in calls) == 1
    assert not any("MaPLe" in call for call in calls)  # has no file for a ResNet
