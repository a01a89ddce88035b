"""The default run of `bash scripts/base2new_train.sh`: its results, predictions, export and report."""

import base64
import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from fdbpl import export, predict
from fdbpl.report.__main__ import main as report
from fdbpl.report.gallery import make_galleries
from fdbpl.report.report import read_results
from fdbpl.runs.metrics import harmonic_mean

from ..bad_input.calls import call, refused

ROOT = Path(__file__).resolve().parents[2]
LINE = r"(\w+) demo seed(\d+): base (\d+\.\d\d) new (\d+\.\d\d) H (\d+\.\d\d)"


@pytest.fixture(scope="module")
def scripts(scripts, tmp_path_factory):
    """Scripts with an output folder of their own: its only bank is that of the default run."""
    return scripts.elsewhere(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="module", autouse=True)
def default_run(scripts) -> list[str]:
    run = scripts.run("base2new_train.sh")
    assert run.returncode == 0, f"{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
    assert "%|" not in run.stdout + run.stderr  # a progress bar needs a terminal
    return run.stdout.splitlines()


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_result(scripts, default_run):
    trainer, seed, base, new, h = re.fullmatch(LINE, default_run[-1]).groups()
    base_run, new_run = (metrics(scripts.folder(part, "FDBPL")) for part in ("train_base", "test_new"))
    assert (trainer, seed) == ("FDBPL", "1")
    assert f"{base_run['accuracy']:.2f}" == base and f"{new_run['accuracy']:.2f}" == new
    assert float(h) == pytest.approx(harmonic_mean(base_run["accuracy"], new_run["accuracy"]), abs=0.005)
    assert min(base_run["accuracy"], new_run["accuracy"]) > 70  # a collapsed seed stays near 65


def test_content_of_the_run_folder(scripts):
    folder = scripts.folder("train_base", "FDBPL")
    run = metrics(folder)
    assert run["protocol"]["shots"] == 16 and len(run["protocol"]["classnames"]) == 14
    assert run["protocol"]["train_images"] == 14 * 16
    assert run["macro_f1"] > 0 and run["peak_memory_mib"]["host"] > 100 and run["seconds"]["total"] > 0
    files = {file.name for file in folder.iterdir()}
    assert {"config.yaml", "run.json", "metrics.json", "done.json", "log.txt"} <= files
    for name in ("prompt_learner", "negative_prompt_learner"):
        checkpoint = (folder / name / "checkpoint").read_text().strip()
        assert (folder / name / checkpoint).is_file()


def test_the_log_can_be_read_by_the_parsers_of_coop(scripts):
    for part, signal in (("train_base", "Finish training"), ("test_new", "=> result")):
        folder = scripts.folder(part, "FDBPL")
        lines = (folder / "log.txt").read_text().splitlines()
        after = lines[lines.index(signal) :]
        accuracies = [match[1] for line in after if (match := re.search(r"\* accuracy: ([\.\deE+-]+)%", line))]
        assert float(accuracies[-1]) == pytest.approx(metrics(folder)["accuracy"], abs=0.051)


def test_a_finished_run_is_not_repeated(scripts, default_run):
    marker = scripts.folder("train_base", "FDBPL") / "done.json"
    before = marker.stat().st_mtime_ns
    assert scripts.succeed_here("base2new_train.sh")[-1] == default_run[-1]
    assert marker.stat().st_mtime_ns == before


def test_the_test_script_repeats_the_base_accuracy(scripts):
    scripts.succeed_here("base2new_test.sh", "demo", 1, "FDBPL", SUB="base")
    again, trained = metrics(scripts.folder("test_base", "FDBPL")), metrics(scripts.folder("train_base", "FDBPL"))
    assert again["accuracy"] == trained["accuracy"] and again["macro_f1"] == trained["macro_f1"]


def test_another_seed_adds_its_images_to_the_bank(scripts):
    (bank,) = (scripts.output / "regions" / "demo").iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in bank.glob("*.safetensors")}
    scripts.succeed_here("generate_regions.sh", "demo", 2, SUB="base")
    after = {file.name: file.stat().st_mtime_ns for file in bank.glob("*.safetensors")}
    assert before.items() < after.items()
    files = scripts.data.rglob("split_fdbpl_Demo_1/shot_16-seed_[12].json")
    lists = [json.loads(file.read_text())["train"] for file in files]
    first, second = ({image[0] for image in images} for images in lists)
    assert first & second and first - second


def test_predictions_have_the_accuracy_of_the_run(scripts, tmp_path):
    folder = scripts.folder("test_new", "FDBPL")
    run = metrics(folder)
    classes = run["protocol"]["classnames"]
    split = json.loads(next(scripts.data.glob("demo/test/split*_1.json")).read_text())["test"]
    images = scripts.data / "demo" / "test" / "images"
    wanted = {str(images / path): name for path, _, name in split if name in classes}
    (tmp_path / "names.txt").write_text("\n".join(classes))
    words = [scripts.folder("train_base", "FDBPL"), *wanted, "--classes-file", tmp_path / "names.txt"]
    assert call(predict.main, [*words, "--output", tmp_path / "p.csv"]).code == 0
    with open(tmp_path / "p.csv", newline="") as stream:
        first = {row["image"]: row["class"] for row in csv.DictReader(stream) if row["rank"] == "1"}
    assert first.keys() == wanted.keys()
    assert 100 * sum(first[path] == name for path, name in wanted.items()) / len(wanted) == run["accuracy"]
    message = refused(predict.main, [folder, next(iter(wanted))], "is not a finished training run")
    assert str(scripts.folder("train_base", "FDBPL")) in message


def test_evaluation_of_base_and_new_classes_together(scripts, default_run):
    """By the real script, whose processes have to find Dassl before they import the data sets."""
    lines = scripts.succeed("base2new_train.sh", JOINT="1")
    assert lines[-1] == default_run[-1]
    folder = scripts.folder("train_base", "FDBPL")
    found = json.loads((folder / "evaluation" / "joint" / "scores.json").read_text())
    joint, alone = found["joint"], metrics(folder)["accuracy"]
    line = f"Joint: base {joint['base']:.2f} new {joint['new']:.2f} H {joint['H']:.2f}"
    assert line in lines and line in scripts.succeed_here("base2new_train.sh", JOINT="1")  # not evaluated again
    assert len(found["classnames"]) == 28 and 40 < joint["base"] <= alone  # the new classes distract
    assert any("Image features looked up" in line for line in lines)


def test_export(scripts, tmp_path):
    folder = scripts.folder("train_base", "FDBPL")
    assert call(export.main, [folder, "--to", tmp_path / "classifier"]).code == 0
    features = load_file(tmp_path / "classifier" / "text_features.safetensors")["text_features"]
    classifier = json.loads((tmp_path / "classifier" / "classifier.json").read_text())
    assert classifier["classnames"] == metrics(folder)["protocol"]["classnames"]
    assert len(features) == 14 and classifier["needs"] == []


@pytest.fixture(scope="module")
def output(scripts, default_run, tmp_path_factory) -> Path:
    """The default run and its bank, separate from the runs of other tests."""
    output = tmp_path_factory.mktemp("output")
    for part in ("train_base", "test_new"):
        folder = scripts.folder(part, "FDBPL")
        shutil.copytree(folder, output / folder.relative_to(scripts.output))
    (output / "regions").symlink_to(scripts.output / "regions")
    return output


def test_report(output, tmp_path):
    done = call(report, [output, "--to", tmp_path / "to"])
    assert done.code == 0, done.err
    files = {"table.md", "table.csv", "table.tex", "report.html"}
    assert {file.name for file in (tmp_path / "to").iterdir()} == files
    row = r"\| FDBPL \| 1 \| \**([\d.]+)\** \| \**([\d.]+)\** \| \**([\d.]+)\** \|"
    base, new, h = map(float, re.search(row, done.out).groups())
    assert h == pytest.approx(harmonic_mean(base, new), abs=0.01)
    page = (tmp_path / "to/report.html").read_text()
    assert page.count("data:image/jpeg") == 24 and "say nothing about photographs" in page
    assert len(page) < 3_000_000


def test_gallery(output):
    (gallery,) = make_galleries(output, read_results(output))
    weights = [region.weight for region in gallery.regions]
    assert weights == sorted(weights, reverse=True) and weights[0] > 0.9 and weights[-1] < 0.3
    for region in gallery.regions:
        image = Image.open(io.BytesIO(base64.b64decode(region.jpeg.split(",")[1])))
        assert image.size == (128, 128) and np.asarray(image).std() > 1
        for prediction in (region.teacher, region.positive, region.negative):
            probabilities = [probability for _, probability in prediction]
            assert probabilities == sorted(probabilities, reverse=True) and 0 <= sum(probabilities) <= 1.0001
    agree = sum(region.teacher[0][0] == region.positive[0][0] for region in gallery.regions[:12])
    assert agree >= 9  # the student agrees with the teacher where w is large
    unsure = sum(region.negative[0][1] < 0.5 for region in gallery.regions[12:])
    assert unsure >= 9  # the negative space is undecided where w is small


def test_gallery_without_images(output, tmp_path):
    """The data set was moved since the run."""
    copy = tmp_path / "output"
    shutil.copytree(output, copy, symlinks=True)
    for file in copy.rglob("config.yaml"):
        config = file.read_text()
        root = re.search(r"^  ROOT: (.*demo_images)$", config, re.MULTILINE)[1]
        file.write_text(config.replace(root, str(tmp_path / "moved")))
    (gallery,) = make_galleries(copy, read_results(copy))
    assert "images do not exist at" in gallery.reason and gallery.regions == []
