"""Measurements other than training steps: tests, region banks, pipelines, and whole runs of train.py."""

import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.errors import SystemFailure
from fdbpl.io.atomic import read_json
from fdbpl.losses import entropy_weight
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.generation import generate
from fdbpl.regions.metadata import BankMetadata, digest
from tools import measure_generation as generation
from tools import measure_lookup as lookup
from tools import measure_pipelines as pipelines
from tools.benchmark.profiles import BankBytes, Evaluation, Generation, Lookup, Pipeline, Rounding, WholeRun
from tools.benchmark.synthetic_inputs import FOLDER, SyntheticInputs
from tools.benchmark.timing import summary

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIGS = {"FDBPL": "FDBPL", "CoOp_KDPL": "CoOp"}  # folder of a trainer's configurations


def measure_evaluation(inputs: SyntheticInputs, point: Evaluation) -> dict:
    """Measure the seconds of one test of each method; the first one computes the features of the test images."""
    seconds = {}
    with tempfile.TemporaryDirectory(dir=inputs.folder) as features:
        for method in point.methods:
            cfg = inputs.config(
                method, point.student, point.teacher, point.classes, 4, TEST__FEATURE_CACHE_DIR=features
            )
            trainer = inputs.build_trainer(cfg)
            with contextlib.redirect_stdout(io.StringIO()):
                trainer.test()
            seconds[method] = trainer.seconds["test"]
    return {"images": len(inputs.paths), "seconds": seconds}


def measure_bank_bytes(inputs: SyntheticInputs, point: BankBytes) -> dict:
    """Measure the bytes per region of a bank of embeddings and of one of top-k probabilities."""
    teacher = load_backbone("random:tiny teacher")
    texts = [f"a photo of a {name}." for name in inputs.names[: point.classes]]
    images = inputs.paths[: point.images]
    result: dict = {"embedding_width": teacher.embed_dim, "regions": point.regions * len(images), "bytes": {}}
    for content in ("embedding", "topk:10"):
        with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
            metadata = _metadata(teacher, content, texts)
            generate(inputs.root, images, folder, metadata, lambda: teacher, point.regions, prompts=texts)
            files = [*Path(folder).glob("regions-*.safetensors"), Path(folder, "manifest.json")]
            result["bytes"][content] = sum(file.stat().st_size for file in files) / result["regions"]
    return result


def _metadata(teacher: Backbone, content: str, texts: list[str]) -> BankMetadata:
    return BankMetadata(
        FOLDER, teacher.name, teacher.sha256, teacher.logit_scale, teacher.image_size, tuple(teacher.mean),
        tuple(teacher.std), (0.08, 0.936), (3 / 4, 4 / 3), 0.5, 1, content,
        digest(texts) if content != "embedding" else "",
    )  # fmt: skip


@torch.no_grad()
def measure_rounding(inputs: SyntheticInputs, point: Rounding) -> dict:
    """Measure the largest absolute effects of float16 embeddings with trained weights."""
    teacher = load_backbone("demo:teacher", inputs.device)
    paths = inputs.paths[: point.images]
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (len(paths), 1))
    requests = RegionRequests(paths, np.arange(len(paths)), boxes, np.zeros(len(paths), bool))
    pipeline = build_pipeline("auto", inputs.root, teacher.image_size, len(paths), inputs.device)
    exact = teacher.encode_image(next(iter(pipeline(requests)))[1])
    texts = teacher.encode_text([f"a photo of a {name}." for name in inputs.names[: point.classes]])
    logits = [teacher.logit_scale * features @ texts.T for features in (exact, exact.half().float())]
    weights = [entropy_weight(values, 1e-6) for values in logits]
    return {
        "images": len(paths),
        "classes": len(texts),
        "logit_scale": teacher.logit_scale,
        "logits": float((logits[0] - logits[1]).abs().max()),
        "largest_logit": float(logits[0].abs().max()),
        "probability": float((logits[0].softmax(-1) - logits[1].softmax(-1)).abs().max()),
        "w": float((weights[0] - weights[1]).abs().max()),
        "same_first_class": float((logits[0].argmax(-1) == logits[1].argmax(-1)).float().mean()),
    }


def measure_lookup(inputs: SyntheticInputs, point: Lookup) -> dict:
    """Measure lookups in a bank of random numbers as large as ImageNet's."""
    images = lookup.image_names(point.images)
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder, contextlib.redirect_stderr(io.StringIO()):
        lookup.make(Path(folder), images, point.per_image, point.width)
        found = lookup.measure(Path(folder), images, point.per_image, point.batch, point.lookups)
    return {**found, "milliseconds": summary(found["milliseconds"])}


def measure_generation(inputs: SyntheticInputs, point: Generation) -> dict:
    """Measure the regions per second of complete generations and of the teacher alone."""
    teacher = load_backbone(f"random:{point.teacher}", inputs.device)
    images = inputs.paths[: point.images]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        rates = generation.measure(inputs.root, images, teacher, point.per_image, point.batch, point.rounds)
    return {"rates": {name: summary(rate) for name, rate in rates.items()}, "share": generation.share(rates)}


def measure_pipeline(inputs: SyntheticInputs, point: Pipeline) -> dict:
    """Measure the regions per second of each installed pipeline, by the number of consecutive regions per image."""
    root = inputs.root / FOLDER if (inputs.root / FOLDER).is_dir() else inputs.root
    settings = Namespace(
        root=root, images=point.images, size=point.size, batch=64, rounds=point.rounds, device=inputs.device
    )
    rates = {}
    for count in point.regions:
        with contextlib.redirect_stdout(io.StringIO()):
            rates[str(count)] = {name: summary(rate) for name, rate in pipelines.measure(settings, count).items()}
    return {"rates": rates}


def measure_whole_run(inputs: SyntheticInputs, point: WholeRun) -> dict:
    """Measure the seconds of bank generation, of the start until the first step, and of complete runs on the demo."""
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder:
        _finish(folder, "FDBPL", "images", "--no-train")  # draws the images that all runs read
        seconds = _finish(folder, "FDBPL", "bank", "--generate-regions")
        starts = [_first_step(folder, f"start{number}") for number in range(point.starts)]
        runs = {name: _finish(folder, name, name, "OPTIM.MAX_EPOCH", str(point.epochs)) for name in point.methods}
        metrics = {name: read_json(Path(folder, name, "metrics.json"), "the metrics of a run") for name in runs}
    accuracy = {name: values["accuracy"] for name, values in metrics.items()}
    return {"generation": seconds, "starts": summary(starts), "seconds": runs, "accuracy": accuracy}


def _finish(folder: str, trainer: str, output: str, *more: str) -> float:
    """Run train.py to its end and return the seconds."""
    begin = time.perf_counter()
    process = _start(folder, trainer, output, *more)
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemFailure(f"train.py failed on the demo: {printed.strip()[-300:]}")
    return time.perf_counter() - begin


def _first_step(folder: str, output: str) -> float:
    """Start train.py, stop it after its first step, and return the seconds until then."""
    begin = time.perf_counter()
    process, printed = _start(folder, "FDBPL", output, "TRAIN.PRINT_FREQ", "1"), []
    try:
        for line in process.stdout or ():
            printed.append(line)
            if "epoch [1/" in line:
                return time.perf_counter() - begin
    finally:
        process.kill()
        process.wait()
    raise SystemFailure(f"train.py ended before its first step on the demo: {''.join(printed[-3:]).strip()}")


def _start(folder: str, trainer: str, output: str, *more: str) -> subprocess.Popen:
    """Start train.py on the base classes of the demo; all files are written to `folder`."""
    flags = [word for word in more if word.startswith("--")]
    keys = [word for word in more if not word.startswith("--")]
    command = [
        sys.executable, "train.py", "--root", f"{folder}/data", "--seed", "1", "--trainer", trainer,
        "--dataset-config-file", "configs/datasets/demo.yaml",
        "--config-file", f"configs/trainers/{CONFIGS[trainer]}/demo.yaml",
        "--output-dir", f"{folder}/{output}", *flags, "REGIONS.ROOT", f"{folder}/regions",
        "DATASET.FEWSHOT_DIR", f"{folder}/few_shot", "DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base",
        "TEST.FEATURE_CACHE_DIR", f"{folder}/features/{output}", *keys,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
