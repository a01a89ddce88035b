"""A finished demo run put to use, as users type it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]


def typed(*words, code: int = 0) -> subprocess.CompletedProcess:
    run = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == code and "Traceback" not in run.stderr, f"{run.stdout}\n{run.stderr}"
    return run


def test_predictions_have_the_run_s_accuracy_and_the_export_its_classes(scripts, tmp_path):
    scripts.succeed("base2new_train.sh", "demo", 1, "FDBPL", "OPTIM.MAX_EPOCH", 3)
    base, new = (scripts.folder(part, "FDBPL", "demo+OPTIM.MAX_EPOCH=3") for part in ("train_base", "test_new"))
    split = next(scripts.data.glob("demo/test/split*.json"))
    items = json.loads(split.read_text())["test"]
    names = [name for _, _, name in sorted({(0, label, name) for _, label, name in items})]
    for folder, classes in ((base, names[:14]), (new, names[14:])):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["protocol"]["classnames"] == classes
        images = scripts.data / "demo" / "test" / "images"
        wanted = {str(images / path): name for path, _, name in items if name in classes}
        (tmp_path / "names.txt").write_text("\n".join(classes))
        typed("fdbpl.predict", base, *wanted, "--classes-file", tmp_path / "names.txt", "--output", tmp_path / "p.csv")
        with open(tmp_path / "p.csv", newline="") as stream:
            first = {row["image"]: row["class"] for row in csv.DictReader(stream) if row["rank"] == "1"}
        assert first.keys() == wanted.keys()
        correct = sum(first[path] == name for path, name in wanted.items())
        assert 100 * correct / len(wanted) == metrics["accuracy"]

    typed("fdbpl.export", base, "--to", tmp_path / "classifier")
    features = load_file(tmp_path / "classifier" / "text_features.safetensors")["text_features"]
    stated = json.loads((tmp_path / "classifier" / "classifier.json").read_text())
    assert stated["classnames"] == names[:14] and len(features) == 14 and stated["needs"] == []

    refused = typed("fdbpl.predict", new, next(iter(wanted)), code=2)
    assert "is not a finished training run" in refused.stderr and str(base) in refused.stderr
