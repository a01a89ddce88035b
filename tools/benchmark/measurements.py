"""Measurements other than training steps and whole runs: tests, region banks and pipelines."""

import contextlib
import io
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import torch

from fdbpl.backbones import Backbone, load_backbone
from fdbpl.losses import entropy_weight
from fdbpl.pipelines import RegionRequests, build_pipeline
from fdbpl.regions.generation import generate
from fdbpl.regions.metadata import BankMetadata, digest
from tools import measure_generation as generation
from tools import measure_lookup as lookup
from tools import measure_pipelines as pipelines
from tools.benchmark.profiles import BankBytes, Evaluation, Generation, Lookup, Pipeline, Rounding
from tools.benchmark.synthetic_inputs import FOLDER, SyntheticInputs
from tools.benchmark.timing import summary


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
    """Measure the bytes of a bank of random numbers, the seconds to open it, and lookups in it."""
    images = lookup.image_names(point.images)
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder, contextlib.redirect_stderr(io.StringIO()):
        lookup.make(Path(folder), images, point.per_image, point.width)
        found = lookup.measure(Path(folder), images, point.per_image, point.batch, point.lookups)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return {**found, "milliseconds": summary(found["milliseconds"]), "bytes": size}


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
