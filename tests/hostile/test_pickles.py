"""Nothing from outside is run: a payload lies in every place that somebody else's file can come to."""

import json
import shutil
from pathlib import Path

import pytest

import fdbpl.regions.__main__ as regions
import fdbpl.report.__main__ as report
import train
from fdbpl import export, predict
from fdbpl.errors import UserError
from fdbpl.protocols.grid_record import GridRecord

from ..bad_input.calls import refused, succeeds
from . import plants


@pytest.fixture
def marker(tmp_path):
    """Where a payload would leave its mark; it must not."""
    place = tmp_path / "marker"
    yield place
    assert not place.exists(), "something in the file was run"


@pytest.mark.parametrize("kind", plants.KINDS)
def test_the_plants_are_alive(tmp_path, kind):
    if not plants.runs(kind, tmp_path):
        pytest.skip(f"this torch does not run {kind} files itself")


@pytest.mark.parametrize("kind", plants.KINDS)
def test_checkpoints(workspace, marker, data_root, kind):
    """In a test, a prediction, an export, a resumed training, a teacher."""
    for file in workspace.run().glob("*/model*"):
        file.write_bytes(plants.KINDS[kind](marker))
    file, picture = str(workspace.run()), str(data_root / "tiny/images/0_0.jpg")
    workspace.refused(flags=workspace.tested(), names=[file, "cannot be read safely"])
    for call in (lambda: predict.main([file, picture]), lambda: export.main([file])):
        refused(call, [], [file, "cannot be read safely"], unchanged=[workspace.run()])
    shutil.copytree(workspace.run(), workspace.folder / "teacher")
    teacher = f"{workspace.folder}/teacher"
    workspace.refused("TEACHER.NAME", f"run:{teacher}", trainer="CoOp_KDPL", output="taught", names=teacher)
    (workspace.run() / "done.json").unlink()
    ended = succeeds(train.main, workspace.words(output="FDBPL"))  # from scratch, as there is nothing to go on from
    assert ended.out.count("Skipping epoch") == 2 and "train from scratch" in ended.out


@pytest.mark.parametrize("kind", plants.KINDS)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_clip_files(workspace, marker, kind, suffix):
    file = workspace.folder / f"clip{suffix}"
    file.write_bytes(plants.KINDS[kind](marker))
    workspace.refused("MODEL.BACKBONE.NAME", file, trainer="CoOp", names=file)
    workspace.refused("TEACHER.NAME", file, flags=["--generate-regions"], names=file)


@pytest.mark.parametrize("kind", plants.KINDS)
def test_open_clip_files(workspace, marker, kind):
    open_clip = pytest.importorskip("open_clip", reason="open_clip_torch is optional")
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1}
    (workspace.folder / "smallest.json").write_text(
        json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text})
    )
    open_clip.add_model_config(workspace.folder / "smallest.json")
    file = workspace.folder / "weights.bin"
    file.write_bytes(plants.KINDS[kind](marker))
    workspace.refused("TEACHER.NAME", f"open_clip:smallest/{file}", flags=["--generate-regions"], names=file)


@pytest.mark.parametrize("kind", ["bare", "zipped"])
@pytest.mark.parametrize("part", ["manifest", "shard", "features", "text"])
def test_banks(workspace, marker, data_root, kind, part):
    places = {
        "manifest": [workspace.bank / "manifest.json"],
        "shard": workspace.shards(),
        "features": workspace.student_features(),
        "text": workspace.texts(),
    }
    places[part][0].write_bytes(plants.KINDS[kind](marker))
    workspace.refused(names=workspace.bank)
    if part in ("manifest", "shard"):
        refused(regions.main, ["inspect", workspace.bank], str(workspace.bank))
        workspace.refused(flags=["--generate-regions"], names=workspace.bank)


def test_the_record_of_a_bank_s_costs(workspace, marker):
    (workspace.bank / "cost.json").write_bytes(plants.bare(marker))
    workspace.succeeds("REGIONS.PER_IMAGE", 4, flags=["--generate-regions"])


@pytest.mark.parametrize("kind", plants.KINDS)
def test_kept_features(workspace, marker, kind):
    for file in workspace.test_features():
        file.write_bytes(plants.KINDS[kind](marker))
    workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]


@pytest.mark.parametrize("suffix", [".pkl", ".json"])
def test_few_shot_lists(workspace, marker, data_root, tmp_path, suffix):
    root = tmp_path / "root"
    shutil.copytree(data_root, root)
    shutil.rmtree(root / "tiny" / "split_fewshot", ignore_errors=True)
    (root / "tiny" / "split_fewshot").mkdir()
    planted = (root / "tiny" / "split_fewshot" / "shot_2-seed_1").with_suffix(suffix)
    planted.write_bytes(plants.bare(marker))
    more = ("DATASET.FEWSHOT_DIR", tmp_path / "cache")
    words = {"flags": ["--root", root, "--no-train"], "trainer": "CoOp"}
    if suffix == ".json":
        workspace.refused(*more, **words, names=planted)
    else:
        workspace.succeeds(*more, **words)


@pytest.mark.parametrize("kind", ["bare", "zipped"])
def test_pictures_and_class_names(workspace, marker, kind):
    picture, names = workspace.folder / "photo.jpg", workspace.folder / "names.txt"
    for file in (picture, names):
        file.write_bytes(plants.KINDS[kind](marker))
    refused(lambda: predict.main([str(workspace.run("CoOp")), str(picture)]), [], str(picture))
    refused(
        lambda: predict.main([str(workspace.run("CoOp")), str(picture), "--classes-file", str(names)]), [], str(names)
    )


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "done.json", "config.yaml"])
def test_records_of_runs(workspace, marker, data_root, name):
    (workspace.run() / name).write_bytes(plants.bare(marker))
    picture = str(data_root / "tiny/images/0_0.jpg")
    if name != "done.json":  # it is its being there that counts
        refused(lambda: predict.main([str(workspace.run()), picture]), [], str(workspace.run()))
    succeeds(report.main, [workspace.folder / "runs", "--no-gallery", "--to", "report"])


@pytest.mark.parametrize("content", ["bare", "code"])
def test_a_foreign_log(tmp_path, marker, content):
    """Its arguments are a Python list in text: read as one, not computed."""
    log = tmp_path / "output" / "theirs" / "log.txt"
    log.parent.mkdir(parents=True)
    opts = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    rule = "***************\n"
    text = f"{rule}** Arguments **\n{rule}opts: [{opts}]\nseed: 1\n{rule}** Config **\n{rule}SEED: 1\n"
    log.write_bytes(plants.bare(marker) if content == "bare" else text.encode())
    assert "## Not in the tables" in succeeds(report.main, [tmp_path / "output", "--to", tmp_path / "report"]).out


def test_the_record_of_a_grid(tmp_path, marker):
    output = tmp_path / "output"
    output.mkdir()
    (output / "grid.json").write_bytes(plants.bare(marker))
    with pytest.raises(UserError, match="grid.json"):
        GridRecord(output).update([], "done")
    out = succeeds(report.main, [output, "--to", tmp_path / "report"]).out
    assert "grid.json: it is not the record of a grid" in out


def test_results_of_submitted_jobs(tmp_path, marker, monkeypatch):
    """submitit leaves a pickle for each job; one that lies there already is not what we read."""
    submitit = pytest.importorskip("submitit")
    from fdbpl.protocols.launchers import Job, launcher, result

    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    launch = launcher("local", "", tmp_path)
    (ended,) = launch([["sh", "-c", "echo fine"]], 1)
    assert (ended.code, ended.line) == (0, "fine")
    job = submitit.LocalJob(tmp_path / "jobs", "4711")
    job.paths.result_pickle.write_bytes(plants.bare(marker))
    assert result(0, job, tmp_path / "jobs" / "none.json").code == 1
    (tmp_path / "jobs" / "planted.json").write_bytes(plants.bare(marker))
    assert result(0, job, tmp_path / "jobs" / "planted.json").code == 1
    assert Job(["true"], tmp_path / "answer.json")() == 0
    assert json.loads((tmp_path / "answer.json").read_text()) == {"code": 0, "line": ""}


@pytest.mark.parametrize("kind", ["bare"])
def test_lists_of_images(tmp_path, marker, teacher_file, kind):
    (tmp_path / "images.json").write_bytes(plants.KINDS[kind](marker))
    words = ["generate", "--root", tmp_path, "--images", tmp_path / "images.json", "--bank", tmp_path / "bank",
             "--teacher", teacher_file]  # fmt: skip
    refused(regions.main, words, "images.json")
