"""Run folders whose records are broken, for every command that reads one; features kept for tests; records of grids."""

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
    "cut off": '{"fingerprint": "0',
    "a list": "[]",
    "null": "null",
    "a number": "7",
    "a text": '"run"',
    "no text": b"\xff\xfe\x00\x01",
    "without end": '{"a":' * 100_000,
    "a huge number": '{"accuracy": ' + "9" * 5000 + "}",
    "nothing in it": "{}",
}


def write(file: Path, content: str | bytes) -> None:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


# the record of a run ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record(workspace, case, data_root):
    """run.json, for the run itself, a test of it, a prediction and an export."""
    file = workspace.run() / "run.json"
    write(file, BROKEN[case])
    workspace.refused(output="FDBPL", names=str(file))
    workspace.refused(flags=workspace.tested(), names=str(file))
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(lambda: predict.main([str(workspace.run()), picture]), [], str(file), unchanged=[workspace.run()])
    refused(lambda: export.main([str(workspace.run())]), [], str(file), unchanged=[workspace.run()])


RECORDS = {
    "no fingerprint": ({"fingerprint": None}, "fingerprint in"),
    "a fingerprint that is a number": ({"fingerprint": 7}, "fingerprint in"),
    "no configuration": ({"config": None}, "config in"),
    "a configuration that is a list": ({"config": [1]}, "config in"),
    "another configuration": ({"fingerprint": "0", "config": {"SEED": 5}}, "instead of"),
    "another task": ({"fingerprint": "0", "task": "test x"}, "task 'test x' instead of 'train'"),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_of_something_else(workspace, case):
    changes, said = RECORDS[case]
    edit_json(workspace.run() / "run.json", **changes)
    workspace.refused(output="FDBPL", names=[said, str(workspace.run())])


# its metrics --------------------------------------------------------------------------------------------------------

METRICS = {
    "no accuracy": {"accuracy": None},
    "an accuracy in words": {"accuracy": "high"},
    "no protocol": {"protocol": None},
    "a protocol that is a list": {"protocol": [1]},
    "no class names": {"protocol": {"shots": 2}},
    "class names that are one text": {"protocol": {"classnames": "cat", "shots": 2}},
    "class names that are numbers": {"protocol": {"classnames": [1, 2], "shots": 2}},
    "no class at all": {"protocol": {"classnames": [], "shots": 2}},
}


@pytest.mark.parametrize("case", [*BROKEN, *METRICS, "gone"])
def test_broken_metrics(workspace, case, data_root):
    """metrics.json, for the line of a protocol, a prediction and an export; a broken one is no finished run's."""
    file = workspace.run() / "metrics.json"
    if case == "gone":
        file.unlink()
    elif case in BROKEN:
        write(file, BROKEN[case])
    else:
        edit_json(file, **METRICS[case])
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(lambda: predict.main([str(workspace.run()), picture]), [], str(file), unchanged=[workspace.run()])
    refused(lambda: export.main([str(workspace.run())]), [], str(file), unchanged=[workspace.run()])
    if case not in METRICS or "accuracy" in METRICS[case]:
        with pytest.raises(UserError, match=re.escape(str(file))):
            base2new_line(workspace.run(), workspace.run("FDBPL_new"))
        workspace.refused(output="FDBPL", names=str(file))


@pytest.mark.parametrize("template", [7, "a photo", ["a {}"]])
def test_a_template_that_is_none(workspace, template, data_root):
    file = workspace.run() / "metrics.json"
    edit_json(file, protocol={**json.loads(file.read_text())["protocol"], "template": template})
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(lambda: predict.main([str(workspace.run()), picture]), [], str(file), unchanged=[workspace.run()])


@pytest.mark.parametrize("content", ["{", None, "shotless"])
def test_lines_of_results(workspace, content):
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


# the rest of a finished run -----------------------------------------------------------------------------------------

CONFIGS = {
    "empty": "",
    "a list": "- 1\n",
    "no YAML": "A: [",
    "code": "TRAINER: !!python/object/apply:os.system ['true']\n",
    "no trainer": "SEED: 1\n",
    "a foreign trainer": "TRAINER: {NAME: DANN}\n",
    "an unknown key of ours": "TRAINER: {NAME: FDBPL, FDBPL: {N_CTXT: 4}}\n",
    "a value of another kind": "TRAINER: {NAME: FDBPL, FDBPL: {N_CTX: four}}\n",
    "a section that is a number": "TRAINER: 7\n",
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_broken_configuration_of_a_run(workspace, case, data_root):
    (workspace.run() / "config.yaml").write_text(CONFIGS[case])
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(
        lambda: predict.main([str(workspace.run()), picture]), [], str(workspace.run()), unchanged=[workspace.run()]
    )


@pytest.mark.parametrize("name", ["done.json", "config.yaml"])
def test_an_unfinished_run_is_not_used(workspace, name, data_root):
    (workspace.run() / name).unlink()
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(lambda: predict.main([str(workspace.run()), picture]), [], [str(workspace.run()), "finished"])


@pytest.mark.parametrize("place", ["nowhere", "config.yaml", "prompt_learner"])
def test_a_place_that_is_no_run(workspace, place, data_root):
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(lambda: predict.main([str(workspace.run() / place), picture]), [], str(workspace.run() / place))
    refused(lambda: export.main([str(workspace.run() / place)]), [], str(workspace.run() / place))


def test_a_test_is_no_training(workspace, data_root):
    picture = str(data_root / "tiny/images/0_0.jpg")
    refused(
        lambda: predict.main([str(workspace.run("FDBPL_new")), picture]),
        [],
        ["a test of the run", str(workspace.run())],
    )


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_done_marker_is_a_done_marker(workspace, content):
    """It is its being there that counts."""
    write(workspace.run() / "done.json", BROKEN[content])
    assert "is finished" in succeeds(train.main, workspace.words(output="FDBPL"), [workspace.run()]).out


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "done.json"])
@pytest.mark.parametrize("case", ["empty", "a list", "no text", "without end", "nothing in it"])
def test_a_report_names_what_it_cannot_read(workspace, name, case):
    write(workspace.run() / name, BROKEN[case])
    out = succeeds(
        report.main, [workspace.folder / "runs", "--no-gallery", "--to", "report"], [workspace.folder / "runs"]
    ).out
    assert "## Not in the tables" in out and "FDBPL: " in out and "Traceback" not in out


# features kept for tests --------------------------------------------------------------------------------------------


def of_nothing(file: Path) -> None:
    with safe_open(file, "pt") as kept:
        metadata, shape = kept.metadata(), kept.get_tensor("features").shape
    save_file({"features": torch.full(shape, torch.nan)}, file, metadata)


def retyped(dtype: torch.dtype):
    def damage(file: Path) -> None:
        with safe_open(file, "pt") as kept:
            metadata, features = kept.metadata(), kept.get_tensor("features")
        save_file({"features": features.to(dtype)}, file, metadata)

    return damage


def fewer(file: Path) -> None:
    with safe_open(file, "pt") as kept:
        metadata, features = kept.metadata(), kept.get_tensor("features")
    save_file({"features": features[:-1].clone()}, file, metadata)


KEPT = {
    **{f"cut at {share}": (lambda file, share=share: truncate(file, share)) for share in TENTHS},
    "gone": Path.unlink,
    "text": lambda file: file.write_text("features"),
    "a bit flipped": flip_bit,
    "no numbers": of_nothing,
    "float16": retyped(torch.float16),
    "bfloat16": retyped(torch.bfloat16),
    "one picture fewer": fewer,
    "no metadata": lambda file: save_file({"features": torch.zeros(10, 32)}, file),
    "another tensor": lambda file: save_file({"other": torch.zeros(10, 32)}, file),
}


def features_in(file: Path) -> torch.Tensor | None:
    try:
        with safe_open(file, "pt") as kept:
            return kept.get_tensor("features").clone()
    except (OSError, SafetensorError):
        return None


@pytest.mark.parametrize("case", KEPT)
def test_kept_features_that_are_broken_are_made_again(workspace, case):
    whole = {file: features_in(file) for file in workspace.test_features()}
    for file in whole:
        KEPT[case](file)
    workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]
    assert sum(features is not None and same(features_in(file), features) for file, features in whole.items()) == 1


def test_features_swapped_are_not_taken_for_each_other(workspace):
    first, second = workspace.test_features()
    kept = first.read_bytes()
    shutil.copy(second, first)
    second.write_bytes(kept)
    workspace.succeeds("DATASET.SUBSAMPLE_CLASSES", "new", flags=workspace.tested())
    assert workspace.metrics()["accuracy"] == workspace.metrics("FDBPL_new")["accuracy"]


def test_no_place_for_features(workspace):
    shutil.rmtree(workspace.folder / "features")
    (workspace.folder / "features").write_text("a file")
    sentence = refused(train.main, workspace.words(flags=workspace.tested()), code=1, names="features")
    assert "cannot write" in sentence


# the record of a grid -----------------------------------------------------------------------------------------------

CELLS = {
    **BROKEN,
    "cells that are none": '{"cells": 7}',
    "cells of numbers": '{"cells": [1]}',
    "cells without a key": '{"cells": [{"protocol": "base2new"}]}',
    "a key that is a list": json.dumps({"cells": [dict.fromkeys(
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


def test_an_output_without_runs(tmp_path):
    refused(report.main, [tmp_path / "nowhere"], "nowhere")
    refused(report.main, [tmp_path], str(tmp_path))
