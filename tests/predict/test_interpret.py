"""`python -m fdbpl.interpret`, predictions of a test set, and exported image features."""

import csv
import os
import re

import numpy as np
import pytest
import torch

from fdbpl import export, interpret
from fdbpl.backbones.openai import tokenize, vocabulary
from fdbpl.engine.registry import default_config
from fdbpl.engine.trained_run import load_run

CSC = {"TRAINER.COOP.CSC": True, "TRAINER.COOP.CTX_INIT": "", "TRAINER.COOP.N_CTX": 2}


def test_the_vocabulary_has_a_text_for_each_token():
    texts = vocabulary()
    assert len(texts) == 49408
    assert [texts[row] for row in tokenize(["a photo of a cat"])[0, 1:6]] == ["a", "photo", "of", "a", "cat"]


def test_a_context_of_words_is_nearest_to_these_words(finished, monkeypatch):
    run = load_run(finished("CoOp"))
    rows = tokenize(["a photo of a"])[0, 1:5]
    words = run.backbone.model.token_embedding.weight[rows].detach()
    monkeypatch.setattr(run, "contexts", lambda: {"prompt_learner": words})
    lines = interpret.describe(run, top=2)
    assert lines[1] == "prompt_learner: 4 vectors"
    found = [re.fullmatch(r"  \d: (\S+) \(0\.0\d*\), \S+ \(\d+\.\d+\)", line)[1] for line in lines[2:]]
    assert found == ["a", "photo", "of", "a"]


@pytest.mark.parametrize(("method", "titles"), [
    ("CoOp", ["prompt_learner: 4 vectors"]),
    ("FDBPL", ["prompt_learner: 4 vectors", "negative_prompt_learner: 4 vectors"]),
    ("MaPLe", ["MultiModalPromptLearner: 2 vectors"]),
])  # fmt: skip
def test_all_contexts_of_a_method(method, titles, finished, capsys):
    run = str(finished(method))
    capsys.readouterr()
    interpret.main([run])
    printed = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d+", "N", line) for line in printed if line.endswith(" vectors")] == [
        re.sub(r"\d+", "N", title) for title in titles
    ]


def test_a_context_for_each_class(finished, capsys):
    run = finished("CoOp", **CSC)
    names = load_run(run).classnames
    capsys.readouterr()
    interpret.main([str(run), "--top", "1"])
    printed = capsys.readouterr().out.splitlines()[1:]
    assert printed[::3] == [f"prompt_learner, {name}: 2 vectors" for name in names]


@pytest.mark.parametrize("method", ["ZeroshotCLIP", "VPT"])
def test_a_method_without_context_is_refused(method, finished, capsys):
    with pytest.raises(SystemExit) as stop:
        interpret.main([str(finished(method))])
    assert stop.value.code == 2 and "learns no context vectors" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["CoOp", "PromptSRC"])
def test_predictions_are_those_of_the_test(method, build_shared, finished):
    run = load_run(finished(method))
    trainer = build_shared(method, f"predictions_{method}", **{"TEST.SAVE_PREDICTIONS": True})
    trainer.load_model(str(run.folder))
    accuracy = trainer.test()
    with open(f"{trainer.output_dir}/predictions.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    items = trainer.dm.dataset.test
    folder = trainer.dm.dataset.root
    assert [os.path.join(folder, row["path"]) for row in table] == [os.path.abspath(item.impath) for item in items]
    assert [row["label"] for row in table] == [item.classname for item in items]
    assert 100 * sum(row["label"] == row["prediction"] for row in table) / len(table) == pytest.approx(accuracy)
    names = trainer.dm.dataset.classnames
    for row in table:
        probabilities = [float(row[name]) for name in names]
        assert (
            sum(probabilities) == pytest.approx(1, abs=1e-5)
            and names[int(np.argmax(probabilities))] == row["prediction"]
        )


def test_the_configuration_has_the_keys_of_all_data_sets():
    from dassl.data.datasets import DATASET_REGISTRY

    defaults = default_config()
    assert "FOLDER" in defaults.DATASET and "Folder" in DATASET_REGISTRY.registered_names()


@pytest.mark.parametrize("method", ["CoOp", "PromptSRC"])
def test_exported_features_give_the_accuracy_of_the_test(method, finished, tmp_path, capsys):
    run = load_run(finished(method))
    export.main([str(run.folder), "--features", str(tmp_path / "f.npz")])
    with np.load(tmp_path / "f.npz", allow_pickle=False) as content:
        features, labels = torch.from_numpy(content["features"]), torch.from_numpy(content["labels"])
        assert content["classnames"].tolist() == run.classnames
        assert len(set(content["paths"].tolist())) == len(labels) == len(features)
    with torch.no_grad():
        found = run.student().text_features()[0]
    accuracy = 100 * float(((features @ found.T).argmax(dim=1) == labels).float().mean())
    assert accuracy == pytest.approx(run.metrics["accuracy"])
    assert not (run.folder / "export").exists()
