"""No code in files from outside is executed: every kind of file that is read is replaced by a payload."""

import json
import shutil
from pathlib import Path

import pytest

import fdbpl.regions.__main__ as regions
import fdbpl.report.__main__ as report
import train
from fdbpl import export, predict
from fdbpl.backbones import load_backbone
from fdbpl.errors import UserError
from fdbpl.protocols.grid_record import GridRecord

from ..bad_input.calls import refused, succeeds
from . import payloads

formats = pytest.mark.parametrize("name", payloads.FORMATS)


@pytest.fixture
def marker(tmp_path):
    """The file that a payload creates; it must not exist at the end of a test."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "the payload was executed"


@formats
def test_unsafe_readers_execute_the_payloads(tmp_path, name):
    if not payloads.is_executed(name, tmp_path):
        pytest.skip(f"this torch does not execute {name} payloads")


@formats
def test_checkpoints(workspace, marker, data_root, name):
    """Test, prediction, export, resumed training and prompted teacher."""
    for file in workspace.run().glob("*/model*"):
        file.write_bytes(payloads.FORMATS[name](marker))
    run, image = str(workspace.run()), str(data_root / "tiny/images/0_0.jpg")
    workspace.refused(flags=workspace.tested(), names=[run, "cannot be read safely"])
    for call in (lambda: predict.main([run, image]), lambda: export.main([run])):
        refused(call, [], [run, "cannot be read safely"], unchanged=[workspace.run()])
    teacher = str(shutil.copytree(workspace.run(), workspace.folder / "teacher"))
    workspace.refused("TEACHER.NAME", f"run:{teacher}", trainer="CoOp_KDPL", output="taught", names=teacher)
    (workspace.run() / "done.json").unlink()
    ended = succeeds(train.main, workspace.words(output="FDBPL"))
    assert ended.out.count("Skipping epoch") == 2 and "train from scratch" in ended.out


@formats
@pytest.mark.parametrize("file", ["clip.pt", "clip.safetensors", "open_clip:ViT-B-32/weights.bin"])
def test_clip_files(tmp_path, marker, name, file):
    prefix, _, file = file.rpartition("/")
    if prefix:
        pytest.importorskip("open_clip", reason="open_clip_torch is optional")
    (tmp_path / file).write_bytes(payloads.FORMATS[name](marker))
    with pytest.raises(UserError, match=file):
        load_backbone(f"{prefix}/{tmp_path / file}" if prefix else str(tmp_path / file))


@pytest.mark.parametrize("name", ["bare", "zipped"])
@pytest.mark.parametrize("part", ["manifest.json", "regions-*", "features/*/*", "text/*"])
def test_banks(workspace, marker, name, part):
    next(workspace.bank.glob(part)).write_bytes(payloads.FORMATS[name](marker))
    workspace.refused(names=workspace.bank)
    if part in ("manifest.json", "regions-*"):
        refused(regions.main, ["inspect", workspace.bank], str(workspace.bank))
        workspace.refused(flags=["--generate-regions"], names=workspace.bank)


def test_cost_records_of_banks(workspace, marker):
    (workspace.bank / "cost.json").write_bytes(payloads.bare(marker))
    workspace.succeeds("REGIONS.PER_IMAGE", 4, flags=["--generate-regions"])


@formats
def test_cached_features(workspace, marker, name):
    for file in workspace.test_features():
        file.write_bytes(payloads.FORMATS[name](marker))
    workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]


@pytest.mark.parametrize("suffix", [".pkl", ".json"])
def test_few_shot_lists(workspace, marker, data_root, tmp_path, suffix):
    root = tmp_path / "root"
    shutil.copytree(data_root, root)
    shutil.rmtree(root / "tiny" / "split_fewshot", ignore_errors=True)
    (root / "tiny" / "split_fewshot").mkdir()
    file = (root / "tiny" / "split_fewshot" / "shot_2-seed_1").with_suffix(suffix)
    file.write_bytes(payloads.bare(marker))
    overrides = ("DATASET.FEWSHOT_DIR", tmp_path / "cache")
    words = {"flags": ["--root", root, "--no-train"], "trainer": "CoOp"}
    if suffix == ".json":
        workspace.refused(*overrides, **words, names=file)
    else:
        workspace.succeeds(*overrides, **words)


@pytest.mark.parametrize("name", ["bare", "zipped"])
def test_images_and_class_names(workspace, marker, name):
    image, classes = workspace.folder / "photo.jpg", workspace.folder / "names.txt"
    for file in (image, classes):
        file.write_bytes(payloads.FORMATS[name](marker))
    run = str(workspace.run("CoOp"))
    refused(lambda: predict.main([run, str(image)]), [], str(image))
    refused(lambda: predict.main([run, str(image), "--classes-file", str(classes)]), [], str(classes))


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "done.json", "config.yaml"])
def test_records_of_runs(workspace, marker, data_root, name):
    (workspace.run() / name).write_bytes(payloads.bare(marker))
    image = str(data_root / "tiny/images/0_0.jpg")
    if name != "done.json":  # only its existence counts
        refused(lambda: predict.main([str(workspace.run()), image]), [], str(workspace.run()))
    succeeds(report.main, [workspace.folder / "runs", "--no-gallery", "--to", "report"])


@pytest.mark.parametrize("content", ["bare", "code"])
def test_logs(tmp_path, marker, content):
    """The arguments in a log are a Python list in text form, which is parsed and not evaluated."""
    log = tmp_path / "output" / "theirs" / "log.txt"
    log.parent.mkdir(parents=True)
    opts = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    rule = "***************\n"
    text = f"{rule}** Arguments **\n{rule}opts: [{opts}]\nseed: 1\n{rule}** Config **\n{rule}SEED: 1\n"
    log.write_bytes(payloads.bare(marker) if content == "bare" else text.encode())
    assert "## Not in the tables" in succeeds(report.main, [tmp_path / "output", "--to", tmp_path / "report"]).out


def test_records_of_grids(tmp_path, marker):
    output = tmp_path / "output"
    output.mkdir()
    (output / "grid.json").write_bytes(payloads.bare(marker))
    with pytest.raises(UserError, match="grid.json"):
        GridRecord(output).update([], "done")
    out = succeeds(report.main, [output, "--to", tmp_path / "report"]).out
    assert "grid.json: it is not the record of a grid" in out


def test_results_of_submitted_jobs(tmp_path, marker, monkeypatch):
    """submitit writes a pickle for each job; the result is read from our own JSON instead."""
    submitit = pytest.importorskip("submitit")
    from fdbpl.protocols.launchers import Job, launcher, result

    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    launch = launcher("local", "", tmp_path)
    (ended,) = launch([["sh", "-c", "echo fine"]], 1)
    assert (ended.code, ended.line) == (0, "fine")
    job = submitit.LocalJob(tmp_path / "jobs", "4711")
    job.paths.result_pickle.write_bytes(payloads.bare(marker))
    assert result(0, job, tmp_path / "jobs" / "none.json").code == 1
    (tmp_path / "jobs" / "payload.json").write_bytes(payloads.bare(marker))
    assert result(0, job, tmp_path / "jobs" / "payload.json").code == 1
    assert Job(["true"], tmp_path / "answer.json")() == 0
    assert json.loads((tmp_path / "answer.json").read_text()) == {"code": 0, "line": ""}


def test_lists_of_images(tmp_path, marker):
    (tmp_path / "images.json").write_bytes(payloads.bare(marker))
    words = ["generate", "--root", tmp_path, "--images", tmp_path / "images.json", "--bank", tmp_path / "bank",
             "--teacher", "random:tiny"]  # fmt: skip
    refused(regions.main, words, "images.json")
