"""What is no step: tests, the bank's bytes and rounding, pipelines, and the way to the first step."""

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
from fdbpl.bench.profiles import BankBytes, Evaluation, Pipeline, Rounding, StartUp
from fdbpl.bench.world import FOLDER, World
from fdbpl.errors import MachineError
from fdbpl.losses import entropy_weight
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions import BankIdentity, generate
from fdbpl.toolbox import CHECKOUT


def measure_evaluation(world: World, point: Evaluation) -> dict:
    """Seconds of each method's test in turn; the first finds no features of the test images."""
    seconds = {}
    with tempfile.TemporaryDirectory(dir=world.folder) as features:
        for method in point.methods:
            cfg = world.config(method, point.student, point.teacher, point.classes, 4, FEATURES__ROOT=features)
            trainer = world.built(cfg)
            with contextlib.redirect_stdout(io.StringIO()):
                trainer.test()
            seconds[method] = trainer.seconds["test"]
    return {"images": len(world.paths), "seconds": seconds}


def measure_bank_bytes(world: World, point: BankBytes) -> dict:
    """Bytes of a region: shards and manifest of a bank of each kind, over its regions."""
    teacher = load_backbone("random:tiny teacher")
    texts = [f"a photo of a {name}." for name in world.names[: point.classes]]
    images = world.paths[: point.images]
    result: dict = {"embedding_width": teacher.embed_dim, "regions": point.regions * len(images), "bytes": {}}
    for content in ("embedding", "topk:10"):
        with tempfile.TemporaryDirectory(dir=world.folder) as folder:
            identity = _identity(teacher, content, texts)
            generate(world.root, images, folder, identity, lambda: teacher, point.regions, prompts=texts)
            files = [*Path(folder).glob("regions-*.safetensors"), Path(folder, "manifest.json")]
            result["bytes"][content] = sum(file.stat().st_size for file in files) / result["regions"]
    return result


def _identity(teacher: Backbone, content: str, texts: list[str]) -> BankIdentity:
    from fdbpl.regions.bank import digest

    return BankIdentity(
        dataset=FOLDER, teacher=teacher.name, teacher_sha256=teacher.sha256, logit_scale=teacher.logit_scale,
        size=teacher.image_size, mean=teacher.mean, std=teacher.std, scale=(0.08, 0.936), ratio=(3 / 4, 4 / 3),
        flip=0.5, seed=1, content=content, classes=digest(texts) if content != "embedding" else "",
    )  # fmt: skip


@torch.no_grad()
def measure_rounding(world: World, point: Rounding) -> dict:
    """What float16 embeddings change, with trained weights (the demo's teacher): largest absolute differences."""
    teacher = load_backbone("demo:teacher", world.device)
    paths = world.paths[: point.images]
    whole = np.tile(np.array([0, 0, 1, 1], np.float32), (len(paths), 1))
    requests = RegionRequests(paths, np.arange(len(paths)), whole, np.zeros(len(paths), bool))
    pipeline = build_pipeline("auto", world.root, teacher.image_size, len(paths), world.device)
    exact = teacher.encode_image(next(iter(pipeline(requests)))[1])
    stored = exact.half().float()
    texts = teacher.encode_text([f"a photo of a {name}." for name in world.names[: point.classes]])
    logits = [teacher.logit_scale * features @ texts.T for features in (exact, stored)]
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


def measure_pipeline(world: World, point: Pipeline) -> dict:
    """Regions per second of each way to decode, by how many regions of an image come in a row."""
    try:
        from fdbpl.pipelines.measure import measure
    except ModuleNotFoundError as error:
        return {"error": f"not measured: {error}"}
    root = world.root / FOLDER if (world.root / FOLDER).is_dir() else world.root
    settings = Namespace(root=root, images=point.images, size=point.size, batch=64, rounds=point.rounds)
    rates = {}
    for count in point.regions:
        with contextlib.redirect_stdout(io.StringIO()):
            rates[str(count)] = measure(settings, count)
    return {"rates": rates}


def measure_start_up(world: World, point: StartUp) -> dict:
    """Seconds from the call of `train.py` to the line of its first step, on the demo world; the bank is there."""
    if not (CHECKOUT / "train.py").is_file():
        return {"error": "not measured: the benchmark was not run from a checkout"}
    with tempfile.TemporaryDirectory(dir=world.folder) as folder:
        _train_py(folder, "--generate-regions").communicate()
        return {"seconds": [_first_step(folder, number) for number in range(point.rounds)]}


def _first_step(folder: str, number: int) -> float:
    begin = time.perf_counter()
    run = _train_py(folder, "TRAIN.PRINT_FREQ", "1", output=f"run{number}")
    said = []
    try:
        for line in run.stdout:
            said.append(line)
            if "epoch [1/" in line:
                return time.perf_counter() - begin
    finally:
        run.kill()
        run.wait()
    raise MachineError(f"expected train.py to reach a step on the demo world, found: {''.join(said[-3:]).strip()}")


def _train_py(folder: str, *more: str, output: str = "made") -> subprocess.Popen:
    flags = [flag for flag in more if flag.startswith("--")]
    keys = [key for key in more if not key.startswith("--")]
    command = [
        sys.executable, "train.py", "--root", f"{folder}/data", "--seed", "1", "--trainer", "FDBPL",
        "--dataset-config-file", "configs/datasets/demo.yaml", "--config-file", "configs/trainers/FDBPL/demo.yaml",
        "--output-dir", f"{folder}/{output}", *flags, "REGIONS.ROOT", f"{folder}/regions", "REGIONS.PER_IMAGE", "1",
        "DATASET.CACHE", f"{folder}/few_shot", "DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base",
        "FEATURES.ROOT", f"{folder}/features", *keys,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
