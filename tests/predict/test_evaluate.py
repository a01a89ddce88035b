"""`python -m fdbpl.evaluate`: the run's test images, both halves of its classes, other data sets, custom data."""

import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
import torch
from PIL import Image

from fdbpl import evaluate, evaluation_data, scores
from fdbpl.engine.trained_run import load_run
from fdbpl.runs.metrics import harmonic_mean

from ..bad_input.calls import refused
from ..trainers.conftest import NAMES

SCORES = ("accuracy", "macro_f1", "balanced_accuracy", "ece", "adaptive_ece", "brier", "nll", "per_class_accuracy")
METHODS = ["CoOp", "CoCoOp", "PromptSRC", "FDBPL", "FDBPL_PromptKD"]  # one of each family


def scores_of(*words) -> dict:
    """Run the command and read its scores.json."""
    words = [str(word) for word in words]
    evaluate.main(words)
    return json.loads((Path(words[words.index("--output") + 1]) / "scores.json").read_text())


def table(file: Path) -> list[list[str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def items(data_root: Path) -> list[tuple[Path, str]]:
    """Test images of all classes with their class names."""
    split = json.loads((data_root / "tiny" / "split.json").read_text())["test"]
    return [(data_root / "tiny" / "images" / file, name) for file, _, name in split]


@pytest.fixture
def folder(data_root, tmp_path) -> Path:
    """Class folders of the test images of the run's five classes."""
    for file, name in items(data_root):
        if name in NAMES[:5]:
            target = tmp_path / "photos" / name.replace(" ", "_").title() / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    return tmp_path / "photos"


@pytest.mark.parametrize("method", METHODS)
def test_the_scores_of_a_test_are_those_of_its_predictions(finished, method):
    """Recomputed from predictions.csv, by scikit-learn where it has them."""
    run = load_run(finished(method, **{"TEST.SAVE_PREDICTIONS": True}))
    (_, _, _, *names), *rows = table(run.folder / "predictions.csv")
    labels = [names.index(row[1]) for row in rows]
    probabilities = np.array([row[3:] for row in rows], dtype=float)
    predictions, classes = probabilities.argmax(axis=1), list(range(len(names)))
    summary = scores.summarize(scores.outcomes(np.log(probabilities), np.array(labels)), len(names))
    summary["accuracy"] = 100 * sklearn.metrics.accuracy_score(labels, predictions)
    summary["macro_f1"] = 100 * sklearn.metrics.f1_score(
        labels, predictions, average="macro", labels=sorted(set(labels))
    )
    summary["balanced_accuracy"] = 100 * sklearn.metrics.balanced_accuracy_score(labels, predictions)
    summary["nll"] = sklearn.metrics.log_loss(
        labels, probabilities / probabilities.sum(1, keepdims=True), labels=classes
    )
    for key in SCORES:
        assert run.metrics[key] == pytest.approx(summary[key], abs=1e-6), key


@pytest.mark.parametrize("method", METHODS)
def test_the_run_s_own_test_images_have_the_scores_of_its_test(finished, tmp_path, method):
    run = load_run(finished(method))
    found = scores_of(run.folder, "--output", tmp_path / "e")
    for key in SCORES:
        assert found[key] == pytest.approx(run.metrics[key], abs=1e-6), key
    assert found["images"] == 10 and found["classnames"] == run.classnames


def test_files(finished, tmp_path, capsys):
    run = load_run(finished("CoOp"))
    capsys.readouterr()
    evaluate.main([str(run.folder)])
    out, place = capsys.readouterr().out, run.folder / "evaluation" / "test_images"
    found = json.loads((place / "scores.json").read_text())
    predictions = table(place / "predictions.csv")[1:]
    labels, predicted = [row[1] for row in predictions], [row[2] for row in predictions]
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=run.classnames)
    confusion = table(place / "confusion.csv")
    assert [row[0] for row in confusion[1:]] == confusion[0][1:] == run.classnames
    assert [[int(count) for count in row[1:]] for row in confusion[1:]] == expected.tolist()
    assert np.load(place / "confusion.npz", allow_pickle=False)["confusion"].tolist() == expected.tolist()
    recalls = sklearn.metrics.recall_score(labels, predicted, labels=run.classnames, average=None)
    assert [(row[0], row[1]) for row in table(place / "per_class.csv")[1:]] == [(name, "2") for name in run.classnames]
    assert [float(row[2]) for row in table(place / "per_class.csv")[1:]] == pytest.approx(100 * recalls, abs=1e-4)
    with Image.open(place / "confusion.png") as image:
        assert image.width > 300
    assert f"TinyDataset (base classes): 10 images, accuracy {found['accuracy']:.2f} %, balanced accuracy" in out
    assert f"Written to {place}: confusion.csv, confusion.npz, confusion.png, per_class.csv, " in out
    shutil.rmtree(run.folder / "evaluation")


def test_without_matplotlib_there_is_no_figure(finished, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    scores_of(finished("CoOp"), "--output", tmp_path / "e")
    assert (tmp_path / "e" / "confusion.csv").exists() and not (tmp_path / "e" / "confusion.png").exists()


@pytest.mark.parametrize("form", ["folder", "csv", "json"])
def test_custom_data_in_any_format(finished, folder, data_root, tmp_path, form):
    run = load_run(finished("FDBPL"))
    rows = [(str(file.relative_to(folder)), file.parent.name) for file in sorted(folder.rglob("*.jpg"))]
    data = folder
    if form == "csv":
        data = folder / "labels.csv"
        data.write_text("".join(f"{path},{name}\n" for path, name in [("path", "class"), *rows]))
    elif form == "json":
        data = folder / "split_zhou_photos.json"
        label_of = {name: label for label, name in enumerate(sorted({name for _, name in rows}))}
        test = [[path, label_of[name], name.replace("_", " ")] for path, name in rows]
        data.write_text(json.dumps({"train": [], "val": [], "test": test}))
    found = scores_of(run.folder, "--data", data, "--output", tmp_path / "e")
    for key in SCORES:
        assert found[key] == pytest.approx(run.metrics[key], abs=1e-4), key
    assert found["classnames"] == run.classnames


def test_images_are_decoded_as_the_run_records(finished, folder, tmp_path):
    """The same pixels, turned by their EXIF orientation, have the same scores."""
    run, sides = finished("CoOp"), []
    for number, orientation in enumerate((1, 6)):
        for file in sorted(folder.rglob("*.jpg")):
            target = tmp_path / str(number) / file.parent.name / f"{file.stem}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(file) as image:
                stored = image.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else image
                exif = Image.Exif()
                exif[0x0112] = orientation
                stored.save(target, exif=exif)
        sides.append(scores_of(run, "--data", tmp_path / str(number), "--output", tmp_path / "e"))
    assert all(sides[0][key] == sides[1][key] for key in SCORES)


def test_other_classes(finished, folder, data_root, tmp_path, capsys):
    """Classes that the run does not know are those of the data; part of the run's classes needs --classes."""
    run = finished("CoOp")
    other = tmp_path / "other"
    for name in ("wolf", "fox"):
        shutil.copytree(next(folder.iterdir()), other / name)
    assert scores_of(run, "--data", other, "--output", tmp_path / "e")["classnames"] == ["fox", "wolf"]
    refused(evaluate.main, [run, "--data", other, "--classes", "fox"], ["'fox' is the only class"])
    shutil.copytree(other / "wolf", folder / "wolf")
    refused(evaluate.main, [run, "--data", folder], ["wolf", "give all classes with --classes"])
    names = ",".join([*NAMES[:5], "wolf", "yurt"])
    found = scores_of(run, "--data", folder, "--classes", names, "--output", tmp_path / "e")
    assert found["images"] == 12 and found["classnames"][-1] == "yurt" and found["per_class_accuracy"][-1] is None


def test_a_data_set_by_name(finished, data_root, tmp_path, monkeypatch):
    """All of its classes, its template and its own decoding."""
    run = load_run(finished("CoOp"))
    (tmp_path / "tiny.yaml").write_text("DATASET:\n  NAME: TinyDataset\n")
    monkeypatch.setattr(evaluation_data, "CONFIGS", tmp_path)
    found = scores_of(run.folder, "--data", "tiny", "--output", tmp_path / "e")
    paths, names = zip(*items(data_root), strict=True)
    logits = torch.cat([batch.logits for batch in run.classify([str(path) for path in paths], NAMES)])
    correct = [NAMES[label] == name for label, name in zip(logits.argmax(1).tolist(), names, strict=True)]
    assert found["classnames"] == NAMES and found["accuracy"] == pytest.approx(100 * np.mean(correct))


@pytest.mark.parametrize("method", METHODS)
def test_base_and_new_images_among_all_classes(finished, data_root, tmp_path, capsys, method):
    run = load_run(finished(method))
    found = scores_of(run.folder, "--joint", "--output", tmp_path / "e")
    correct = {True: [], False: []}
    for path, name in items(data_root):
        (batch,) = run.classify([str(path)], NAMES)
        correct[name in NAMES[:5]].append(NAMES[int(batch.logits.argmax())] == name)
    base, new = (100 * np.mean(correct[half]) for half in (True, False))
    assert found["joint"] == {"base": pytest.approx(base), "new": pytest.approx(new), "H": harmonic_mean(base, new)}
    assert found["images"] == 20 and found["classnames"] == NAMES
    assert f"Joint: base {base:.2f} new {new:.2f} H {harmonic_mean(base, new):.2f}" in capsys.readouterr().out


def test_unreadable_images_are_left_out_and_named(finished, folder, tmp_path):
    (folder / "Cat" / "broken.jpg").write_bytes(b"no image")
    words = [finished("CoOp"), "--data", folder, "--output", tmp_path / "e"]
    refused(evaluate.main, words, ["1 of 11 images cannot be read", "broken.jpg"], unchanged=[folder])
    found = json.loads((tmp_path / "e" / "scores.json").read_text())
    assert found["images"] == 10 and list(found["unreadable"]) == [str(folder / "Cat" / "broken.jpg")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "There is no folder or file nowhere, and no data set of this name"),
        (["--joint", "--data", "x"], "leave out --data and --classes"),
        (["--joint", "--classes", "a,b"], "leave out --data and --classes"),
        (["--batch-size", "-1"], "--batch-size is -1"),
        (["--classes", "cat,yurt"], "4 classes of the images are not among the 2 classes"),
    ],
)
def test_invalid_arguments(finished, words, message):
    refused(evaluate.main, [finished("CoOp"), *words], [message])
