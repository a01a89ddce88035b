"""Run folders as train.py and Dassl write them, with chosen numbers."""

import json
import re
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

LOG = """***************
** Arguments **
***************
backbone:{space}
config_file: configs/trainers/{trainer}/{config}.yaml
dataset_config_file: configs/datasets/{dataset}.yaml
eval_only: {test}
load_epoch: {load_epoch}
model_dir: {model_dir}
opts: ['DATASET.NUM_SHOTS', '{shots}', 'DATASET.SUBSAMPLE_CLASSES', '{classes}']
output_dir: {folder}
seed: {seed}
trainer: {trainer}
************
** Config **
************
DATASET:
  NAME: {dataset}
  NUM_SHOTS: {shots}
  SUBSAMPLE_CLASSES: {classes}
MODEL:
  BACKBONE:
    NAME: {backbone}
OPTIM:
  MAX_EPOCH: {epochs}
SEED: {seed}
TRAINER:
  COOP:
    CTX_INIT: a photo of a
  NAME: {trainer}
Collecting env info ...
** System info **
PyTorch version: 1.9.0
"""
RESULT = """Evaluate on the *test* set
=> result
* total: 1,000
* correct: 800
* accuracy: {accuracy}%
* error: 1.0%
* macro_f1: 3.0%
Elapsed: 0:00:19
"""


def epoch_lines(epochs: int, upto: int, loss=lambda epoch: 2.0 / epoch) -> str:
    """Lines of a log, one for each epoch."""
    return "".join(
        f"epoch [{epoch}/{epochs}] batch [5/10] time 0.005 (0.012) data 0.004 (0.008) "
        f"loss 9.0000 ({loss(epoch):.4f}) acc 50.0000 (40.0000) lr 2.0000e-03 eta 0:00:00\n"
        for epoch in range(1, upto + 1)
    )


def nested(values: dict) -> dict:
    """{"A.B": 1} -> {"A": {"B": 1}}"""
    config: dict = {}
    for key, value in values.items():
        *path, name = key.split(".")
        reduce(lambda node, part: node.setdefault(part, {}), path, config)[name] = value
    return config


class Tree:
    """Builder of an OUTPUT folder."""

    epoch_lines = staticmethod(epoch_lines)

    def __init__(self, output: Path):
        self.output = output
        self.cells: list[dict] = []

    def write(self, path: str, content) -> Path:
        file = self.output / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        return file

    def run(
        self, place: str, trainer="CoOp", dataset="demo", seed=1, accuracy: float | None = 80.0, classes="base",
        shots=16, config="demo", backbone="demo:vit-student", tests="", epoch=None, epochs=10, seconds=None, log="",
        values: dict | None = None, at: str = "", record: dict | None = None, **metrics,
    ) -> str:  # fmt: skip
        """Write a run folder of this project below `place`, or at the path `at`; accuracy None = not finished.

        Returns:
            The fingerprint.

        Args:
            config: name of the file and overrides, as in the folder names of the scripts: "demo+OPTIM.LR=1".
            values: more keys of the configuration, {"A.B": value}, as from an edited file.
            record: more keys of run.json.
        """
        source = metrics.pop("source", dataset)
        folder = re.sub(r"[^\w.]", "-", trainer)
        path = at or f"{place}/{source}/shots_{shots}/{folder}/{config}/seed{seed}"
        key = f"fingerprint of {path}"
        overrides = dict(pair.split("=", 1) for pair in config.split("+")[1:])
        values = {
            "TRAINER.NAME": trainer, "SEED": seed, "OPTIM.MAX_EPOCH": epochs, "DATASET.NAME": dataset,
            "DATASET.NUM_SHOTS": shots, "DATASET.SUBSAMPLE_CLASSES": classes, "MODEL.BACKBONE.NAME": backbone,
            **overrides, **(values or {}),
        }  # fmt: skip
        record = {
            "command": ["python", "train.py", "--dataset-config-file", f"configs/datasets/{dataset}.yaml",
                        "--config-file", f"configs/trainers/some/{config.partition('+')[0]}.yaml",
                        *[word for pair in overrides.items() for word in pair]],
            "started": f"2026-11-2{seed}T10:00:00+0000",
            "fingerprint": key,
            "task": f"test {tests} epoch {epoch}" if tests else "train",
            "config": nested(values),
            "python": "3.11.7", "packages": {"torch": "2.4.0", "clip": None},
            "code": {"commit": "0123456789abcdef", "modified": False},
            "machine": {"system": "Linux", "processor": "a processor", "gpu": None},
        } | (record or {})  # fmt: skip
        key = record["fingerprint"]
        self.write(f"{path}/run.json", record)
        self.write(f"{path}/log.txt", log or epoch_lines(epochs, epochs))
        if accuracy is not None:
            content = {
                "trainer": trainer, "dataset": dataset, "seed": seed, "parameters": 512, "steps": 0 if tests else 100,
                "processes": 1, "accuracy": accuracy, "error_rate": 100 - accuracy, "macro_f1": accuracy / 2,
                "seconds": {"build": 1.0, "prepare": 0.5, "train": 10.0, "step": 0.1, "test": 2.0, "total": 14.0}
                | (seconds or {}),
                "peak_memory_mib": {"host": 1000.0}, **metrics,
            }  # fmt: skip
            self.write(f"{path}/metrics.json", content)
            self.write(f"{path}/done.json", {"fingerprint": key})
        return key

    def pair(self, base: float, new: float | None, **run) -> str:
        """Write a training on base classes and its test on new classes."""
        key = self.run("base2new/train_base", accuracy=base, **run)
        self.run("base2new/test_new", accuracy=new, **{**run, "tests": key, "classes": "new"})
        return key

    def predictions(self, path: str, predicted: list[int], confidence=0.75) -> None:
        """Write confusion.npz of a run with images of the classes cat, dog, owl, cat ... and their scores."""
        labels = np.arange(len(predicted)) % 3
        np.savez(self.output / path / "confusion.npz", classnames=np.array(["cat", "dog", "owl"]), labels=labels,
                 predictions=np.array(predicted), confidences=np.full(len(labels), confidence))  # fmt: skip
        file = self.output / path / "metrics.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"ece": 5.0, "brier": 0.25}))

    def bank(self, cost=None, dataset="demo") -> str:
        """Write a bank below OUTPUT; return the line of a run's log that names it."""
        self.write(f"regions/{dataset}/bank/manifest.json", {"identity": {"schema": 1}})
        if cost is not None:
            self.write(f"regions/{dataset}/bank/cost.json", cost)
        return f"Region bank: /moved/since/regions/{dataset}/bank (teacher and student looked up, 9 images)\n"

    def plan(self, protocol="base2new", trainer="CoOp", dataset="demo", seed=1, **cell) -> None:
        self.cells.append(
            {"protocol": protocol, "label": trainer, "trainer": trainer, "config": "demo", "dataset": dataset,
             "targets": [], "shots": 16, "seed": seed, "status": "done", "reason": "", **cell}
        )  # fmt: skip
        self.write("grid.json", {"cells": self.cells})

    def log(
        self, path: str, trainer="CoOp", dataset="caltech101", seed=1, accuracy: str | None = "80.0", classes="base",
        shots=16, config="vit_b16", backbone="ViT-B/16", model_dir="", load_epoch=None, epochs=50, upto=None,
        end="Finish training", body: str | None = None,
    ) -> Path:  # fmt: skip
        """Write a run of another code base, which is only Dassl's log; accuracy None = it stopped before its result."""
        text = LOG.format(
            trainer=trainer, dataset=dataset, seed=seed, classes=classes, shots=shots, config=config, backbone=backbone,
            model_dir=model_dir, load_epoch=load_epoch, epochs=epochs, test=bool(model_dir), space=" ",
            folder=f"output/{path}",
        )  # fmt: skip
        if body is None:
            body = "" if model_dir else epoch_lines(epochs, upto or epochs)
            body += "" if model_dir or accuracy is None else f"{end}\nDeploy the last-epoch model\n"
            body += RESULT.format(accuracy=accuracy) if accuracy is not None else ""
        return self.write(f"{path}/log.txt", text + body)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "output")
