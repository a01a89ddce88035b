"""Exported classifiers: the examples of docs/PREDICT.md give the probabilities of `fdbpl.predict`."""

import json
import os
import re
import runpy
import signal
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fdbpl import export, predict
from fdbpl.engine.trained_run import load_run

ROOT = Path(__file__).resolve().parents[2]
CLIP, *REPLACEMENTS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "PREDICT.md").read_text(), re.DOTALL)
REPLACED = re.search(r"^assert not .*?^    image = model.*?\n", CLIP, re.DOTALL | re.MULTILINE)[0]
OPEN_CLIP, VISUAL = (CLIP.replace(REPLACED, lines) for lines in REPLACEMENTS)
DIFFERENCE = {"TRAINER.FDBPL.TEST_LOGITS": "difference"}
NAMES = ["wolf", "sea lion", "a yurt, in winter"]


def run_example(example: str, tmp_path, capsys, monkeypatch, *arguments) -> dict[str, float]:
    """Run an example of the docs and return the {class name: probability} that it prints."""
    script = tmp_path / "example.py"
    script.write_text(example)
    monkeypatch.setattr(sys, "argv", ["example.py", *map(str, arguments)])
    capsys.readouterr()
    runpy.run_path(str(script))
    lines = capsys.readouterr().out.splitlines()
    return {name: float(probability) for probability, name in (line.split(" ", 1) for line in lines)}


def predicted(run, photo, tmp_path, *arguments) -> dict[str, float]:
    """Return {class name: probability} of `fdbpl.predict`."""
    output = tmp_path / "predictions.json"
    predict.main([str(run), str(photo), "--output", str(output), *arguments])
    (row,) = json.loads(output.read_text())
    return {pair["class"]: pair["probability"] for pair in row["classes"]}


@pytest.fixture
def photo(data_root) -> Path:
    return data_root / "tiny" / "images" / "3_7.jpg"


@pytest.mark.parametrize("method", ["CoOp", "FDBPL", "TCP", "KgCoOp", "ZeroshotCLIP2"])
def test_with_torch_and_clip_alone(method, finished, photo, tmp_path, capsys, monkeypatch):
    run = finished(method)
    export.main([str(run), "--to", str(tmp_path / "classifier")])
    expected = predicted(run, photo, tmp_path)
    found = run_example(CLIP, tmp_path, capsys, monkeypatch, tmp_path / "classifier", photo)
    assert list(found) == list(expected) and found == pytest.approx(expected, abs=1e-5)


def test_the_known_classes_are_printed_and_written(finished, tmp_path, capsys):
    run = finished("CoOp")
    names = load_run(run).classnames
    for words, known in (([], names), (["--classes", ",".join(NAMES[:2])], NAMES[:2])):
        capsys.readouterr()
        export.main([str(run), "--to", str(tmp_path), *words])
        printed = capsys.readouterr().out
        assert f"{len(known)} classes: {', '.join(known)}" in printed
        assert ("only the base half" in printed) == (known is names)
        written = json.loads((tmp_path / "classifier.json").read_text(encoding="utf-8"))
        assert written["classnames"] == known and written["trained_on"] == {"classes": "base", "classnames": names}


@pytest.mark.filterwarnings("ignore")
def test_with_open_clip(finished, student_file, photo, tmp_path, capsys, monkeypatch):
    """Under an architecture of the tiny CLIP's measures, from the file in place of `openai`."""
    open_clip = pytest.importorskip("open_clip")
    tower = {"width": 64, "layers": 2}
    architecture = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {**tower, "image_size": 32, "patch_size": 16, "head_width": 64},
        "text_cfg": {**tower, "heads": 1, "context_length": 77, "vocab_size": 49408},
    }
    (tmp_path / "tiny-quickgelu.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(tmp_path / "tiny-quickgelu.json")
    run = finished("CoOp")
    export.main([str(run), "--to", str(tmp_path / "classifier"), "--classes", 'wolf,sea lion,"a yurt, in winter"'])
    expected = predicted(run, photo, tmp_path, "--classes", 'wolf,sea lion,"a yurt, in winter"')
    example = OPEN_CLIP.replace("import json, sys, clip", "import json, sys, open_clip")
    for words, tiny in (("ViT-B-32-quickgelu", "tiny-quickgelu"), ("openai", Path(student_file).with_name("state.pt"))):
        assert f'"{words}"' in example
        example = example.replace(f'"{words}"', repr(str(tiny)))
    found = run_example(example, tmp_path, capsys, monkeypatch, tmp_path / "classifier", photo)
    assert set(found) == set(NAMES) and found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("method", "needs"),
    [("VPT", ["visual prompts"]), ("MaPLe", ["visual prompts"]), ("FDBPL_PromptSRC", ["visual prompts"]),
     ("PromptKD", ["visual prompts", "projector"])],
)  # fmt: skip
def test_with_visual_prompts(method, needs, finished, photo, tmp_path, capsys, monkeypatch):
    run = finished(method)
    export.main([str(run), "--to", str(tmp_path / "classifier")])
    assert json.loads((tmp_path / "classifier" / "classifier.json").read_text())["needs"] == needs
    expected = predicted(run, photo, tmp_path)
    found = run_example(VISUAL, tmp_path, capsys, monkeypatch, tmp_path / "classifier", photo)
    assert list(found) == list(expected) and found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(AssertionError, match="needs"):  # the plain example does not pretend
        run_example(CLIP, tmp_path, capsys, monkeypatch, tmp_path / "classifier", photo)


def test_the_difference_of_two_spaces(finished, photo, tmp_path):
    folder = finished("FDBPL", **DIFFERENCE)
    export.main([str(folder), "--to", str(tmp_path)])
    classifier = json.loads((tmp_path / "classifier.json").read_text())
    assert classifier["needs"] == ["negative text features"]
    tensors, run = load_file(tmp_path / "text_features.safetensors"), load_run(folder)
    from PIL import Image

    image = run.transform(Image.open(photo).convert("RGB"))[None]
    x = run.backbone.encode_image(image)
    found = tensors["logit_scale"] * x @ (tensors["text_features"] - tensors["negative_text_features"]).T
    assert found[0].tolist() == pytest.approx(run.predictor()(image)[0].tolist(), abs=1e-5)


def test_content_of_classifier_json(finished, student_file, tmp_path):
    folder = finished("CoOp")
    export.main([str(folder), "--to", str(tmp_path)])
    classifier, run = json.loads((tmp_path / "classifier.json").read_text()), load_run(folder)
    features = load_file(tmp_path / "text_features.safetensors")["text_features"]
    assert classifier["classnames"] == run.classnames and len(features) == len(run.classnames)
    assert features.norm(dim=-1).tolist() == pytest.approx([1.0] * len(features), abs=1e-6)
    assert classifier["template"] == "a drawing of a {}." and classifier["trainer"] == "CoOp"
    assert classifier["backbone"] == {"name": student_file, "sha256": run.backbone.sha256}
    steps = {type(step).__name__: step for step in run.transform.transforms}
    preprocessing = classifier["preprocessing"]
    assert [preprocessing["resize"]] * 2 == preprocessing["size"] == list(steps["CenterCrop"].size) and preprocessing[
        "crop"
    ] == "center"
    assert steps["Resize"].size in (preprocessing["resize"], [preprocessing["resize"]])
    assert steps["Resize"].interpolation.value == preprocessing["interpolation"]
    assert (preprocessing["mean"], preprocessing["std"]) == (
        list(steps["Normalize"].mean),
        list(steps["Normalize"].std),
    )
    record = json.loads((folder / "run.json").read_text())
    assert classifier["run"] == {"fingerprint": record["fingerprint"], "dataset": "TinyDataset", "seed": 1}


def test_files_of_two_exports_are_refused(finished, photo, tmp_path, capsys, monkeypatch):
    """The second export is interrupted between its two files, so the names are old and the features new."""
    command = [str(finished("CoOp")), "--to", str(tmp_path / "classifier")]
    export.main(command)
    write = export.write_json
    monkeypatch.setattr(export, "write_json", lambda path, value: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as stop:
        export.main([*command, "--classes", ",".join(f"another {number}" for number in range(10))])
    assert stop.value.code == 130
    with pytest.raises(AssertionError, match="the files belong to different exports"):
        run_example(CLIP, tmp_path, capsys, monkeypatch, tmp_path / "classifier", photo)
    monkeypatch.setattr(export, "write_json", write)
    export.main(command)
    assert run_example(CLIP, tmp_path, capsys, monkeypatch, tmp_path / "classifier", photo)


@pytest.mark.parametrize("method", ["CoCoOp", "FDBPL_CoCoOp"])
def test_class_features_of_each_image_are_refused(method, finished, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        export.main([str(finished(method)), "--to", str(tmp_path / "classifier")])
    assert stop.value.code == 2 and not (tmp_path / "classifier").exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"{method} .* computes class features from each image.*; use python -m fdbpl.predict", line)
