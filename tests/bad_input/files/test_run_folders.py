"""Run folders with broken records, in every command that reads them; cached test features; records of grids."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

import fdbpl.report.__main__ as report
import train
from fdbpl import export, predict
from fdbpl.errors import UserError
from fdbpl.protocols.grid_record import GridRecord
from fdbpl.runs.results import base2new_line, few_shot_line, transfer_line

from ...damage import TENTHS, flip_bit, truncate
from ...trainers.methods import same
from ..calls import refused, succeeds
from .workspace import edit_json

BROKEN = {
    "empty": "",
    "truncated": '{"fingerprint": "0',
    "a list": "[]",
    "null": "null",
    "a number": "7",
    "a text": '"run"',
    "binary data": b"\xff\xfe\x00\x01",
    "deeply nested": '{"a":' * 100_000,
    "a huge number": '{"accuracy": ' + "9" * 5000 + "}",
    "an empty object": "{}",
}


def write(file: Path, content: str | bytes) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def check_unusable(data_root):
    """Return a function that checks that prediction and export refuse a run folder with a message."""

    def check(run: Path, words: str | list[str]) -> None:
        unchanged = [run] if run.exists() else []
        refused(predict.main, [run, data_root / "tiny/images/0_0.jpg"], words, unchanged=unchanged)
        refused(export.main, [run], words, unchanged=unchanged)

    return check


# the record of a run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BROKEN)
def test_broken_run_json(workspace, case, check_unusable):
    file = workspace.run() / "run.json"
    write(file, BROKEN[case])
    workspace.refused(output="FDBPL", names=str(file))
    workspace.refused(flags=workspace.tested(), names=str(file))
    check_unusable(workspace.run(), str(file))


RECORDS = {
    "no fingerprint": ({"fingerprint": None}, "fingerprint in"),
    "a fingerprint of type int": ({"fingerprint": 7}, "fingerprint in"),
    "no configuration": ({"config": None}, "config in"),
    "a configuration of type list": ({"config": [1]}, "config in"),
    "another configuration": ({"fingerprint": "0", "config": {"SEED": 5}}, "instead of"),
    "another task": ({"fingerprint": "0", "task": "test x"}, "task 'test x' instead of 'train'"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_run_json_of_another_run(workspace, case):
    changes, message = RECORDS[case]
    edit_json(workspace.run() / "run.json", **changes)
    workspace.refused(output="FDBPL", names=[message, str(workspace.run())])


# its metrics ---------------------------------------------------------------------------------------------------------

METRICS = {
    "no accuracy": {"accuracy": None},
    "an accuracy of type str": {"accuracy": "high"},
    "no protocol": {"protocol": None},
    "a protocol of type list": {"protocol": [1]},
    "no class names": {"protocol": {"shots": 2}},
    "class names of type str": {"protocol": {"classnames": "cat", "shots": 2}},
    "class names of type int": {"protocol": {"classnames": [1, 2], "shots": 2}},
    "an empty list of class names": {"protocol": {"classnames": [], "shots": 2}},
}


@pytest.mark.parametrize("case", [*BROKEN, *METRICS, "missing"])
def test_broken_metrics_json(workspace, case, check_unusable):
    file = workspace.run() / "metrics.json"
    if case == "missing":
        file.unlink()
    elif case in BROKEN:
        write(file, BROKEN[case])
    else:
        edit_json(file, **METRICS[case])
    check_unusable(workspace.run(), str(file))
    if case not in METRICS or "accuracy" in METRICS[case]:
        with pytest.raises(UserError, match=re.escape(str(file))):
            base2new_line(workspace.run(), workspace.run("FDBPL_new"))
        workspace.refused(output="FDBPL", names=str(file))


@pytest.mark.parametrize("template", [7, "a photo", ["a {}"]])
def test_invalid_templates(workspace, template, check_unusable):
    file = workspace.run() / "metrics.json"
    edit_json(file, protocol={**json.loads(file.read_text())["protocol"], "template": template})
    check_unusable(workspace.run(), str(file))


@pytest.mark.parametrize("content", ["{", None, "shotless"])
def test_result_lines_of_broken_runs(workspace, content):
    run, other = workspace.run(), workspace.run("other")
    if content:
        other.mkdir()
        shotless = {"accuracy": 1.0, "trainer": "CoOp", "dataset": "demo", "seed": 1, "protocol": {"classnames": ["a"]}}
        write(other / "metrics.json", json.dumps(shotless) if content == "shotless" else content)
    with pytest.raises(UserError):
        few_shot_line([other])
    with pytest.raises(UserError):
        transfer_line(other, [run])
    if content != "shotless":
        for line in (lambda: base2new_line(run, other), lambda: transfer_line(run, [other])):
            with pytest.raises(UserError, match="metrics"):
                line()


# the rest of a finished run ------------------------------------------------------------------------------------------

CONFIGS = {
    "empty": "",
    "a list": "- 1\n",
    "invalid YAML": "A: [",
    "code": "TRAINER: !!python/object/apply:os.system ['true']\n",
    "no trainer": "SEED: 1\n",
    "an unknown trainer": "TRAINER: {NAME: DANN}\n",
    "an unknown key of a trainer": "TRAINER: {NAME: FDBPL, FDBPL: {N_CTXT: 4}}\n",
    "a value of another type": "TRAINER: {NAME: FDBPL, FDBPL: {N_CTX: four}}\n",
    "a section of type int": "TRAINER: 7\n",
}


@pytest.mark.parametrize("case", CONFIGS)
def test_broken_config_yaml(workspace, case, check_unusable):
    (workspace.run() / "config.yaml").write_text(CONFIGS[case])
    check_unusable(workspace.run(), str(workspace.run()))


@pytest.mark.parametrize(
    ("name", "message"),
    [("done.json", "unfinished"), ("config.yaml", "it has no config.yaml"), ("prompt_learner", "no checkpoint in ")],
)
def test_missing_files(workspace, name, message, check_unusable):
    (workspace.run() / name).rename(workspace.folder / "elsewhere")
    check_unusable(workspace.run(), [str(workspace.run()), message])


@pytest.mark.parametrize("place", ["nowhere", "config.yaml", "prompt_learner"])
def test_paths_without_a_run(workspace, place, check_unusable):
    check_unusable(workspace.run() / place, str(workspace.run() / place))


def test_the_folder_of_a_test(workspace, check_unusable):
    check_unusable(workspace.run("FDBPL_new"), ["a test of the run", str(workspace.run())])


@pytest.mark.parametrize("content", BROKEN)
def test_the_content_of_done_json_is_ignored(workspace, content):
    write(workspace.run() / "done.json", BROKEN[content])
    assert "is finished" in succeeds(train.main, workspace.words(output="FDBPL"), [workspace.run()]).out


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "done.json"])
@pytest.mark.parametrize("case", ["empty", "a list", "binary data", "deeply nested", "an empty object"])
def test_a_report_lists_unreadable_runs(workspace, name, case):
    write(workspace.run() / name, BROKEN[case])
    out = succeeds(
        report.main, [workspace.folder / "runs", "--no-gallery", "--to", "report"], [workspace.folder / "runs"]
    ).out
    assert "## Not in the tables" in out and "FDBPL: " in out and "Traceback" not in out


# cached test features ------------------------------------------------------------------------------------------------


def all_nan(file: Path) -> None:
    with safe_open(file, "pt") as kept:
        metadata, shape = kept.metadata(), kept.get_tensor("features").shape
    save_file({"features": torch.full(shape, torch.nan)}, file, metadata)


def converted(dtype: torch.dtype):
    def damage(file: Path) -> None:
        with safe_open(file, "pt") as kept:
            metadata, features = kept.metadata(), kept.get_tensor("features")
        save_file({"features": features.to(dtype)}, file, metadata)

    return damage


def without_last_image(file: Path) -> None:
    with safe_open(file, "pt") as kept:
        metadata, features = kept.metadata(), kept.get_tensor("features")
    save_file({"features": features[:-1].clone()}, file, metadata)


CACHED = {
    **{f"cut at {share}": (lambda file, share=share: truncate(file, share)) for share in TENTHS},
    "missing": Path.unlink,
    "text": lambda file: file.write_text("features"),
    "a bit flipped": flip_bit,
    "NaN": all_nan,
    "float16": converted(torch.float16),
    "bfloat16": converted(torch.bfloat16),
    "one image fewer": without_last_image,
    "no metadata": lambda file: save_file({"features": torch.zeros(10, 32)}, file),
    "another tensor": lambda file: save_file({"other": torch.zeros(10, 32)}, file),
}


def features_in(file: Path) -> torch.Tensor | None:
    try:
        with safe_open(file, "pt") as kept:
            return kept.get_tensor("features").clone()
    except (OSError, SafetensorError):
        return None


@pytest.mark.parametrize("case", CACHED)
def test_broken_cached_features_are_computed_again(workspace, case):
    whole = {file: features_in(file) for file in workspace.test_features()}
    for file in whole:
        CACHED[case](file)
    workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]
    assert sum(features is not None and same(features_in(file), features) for file, features in whole.items()) == 1


def test_swapped_cached_features_are_not_used(workspace):
    first, second = workspace.test_features()
    kept = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(kept)
    workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]


def test_a_file_in_place_of_the_feature_cache(workspace):
    shutil.rmtree(workspace.folder / "features")
    (workspace.folder / "features").write_text("a file")
    refused(train.main, workspace.words(flags=workspace.tested()), ["cannot write", "features"], code=1)


# the record of a grid ------------------------------------------------------------------------------------------------

CELLS = {
    **BROKEN,
    "cells of type int": '{"cells": 7}',
    "a list of numbers": '{"cells": [1]}',
    "a cell without keys": '{"cells": [{"protocol": "base2new"}]}',
    "keys of type list": json.dumps({"cells": [dict.fromkeys(
        ("protocol", "trainer", "config", "dataset", "shots", "seed"), []
    )]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CELLS)
def test_a_grid_does_not_overwrite_a_broken_record(tmp_path, case):
    output = tmp_path / "output"
    output.mkdir()
    write(output / "grid.json", CELLS[case])
    with pytest.raises(UserError, match="grid.json"):
        GridRecord(output).update([], "done")
    assert [file.name for file in output.iterdir() if not file.name.startswith(".")] == ["grid.json"]


def test_a_report_of_a_folder_without_runs(tmp_path):
    refused(report.main, [tmp_path / "nowhere"], "nowhere")
    refused(report.main, [tmp_path], str(tmp_path))
