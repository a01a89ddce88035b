"""Regions as the teacher saw them, from informative to uninformative, with what teacher and student say of each.

The only part of the report that needs torch, the trainers, the bank and the image files.
"""

import base64
import io
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fdbpl.errors import UserError
from fdbpl.report.cost import bank_of
from fdbpl.report.experiments import Results
from fdbpl.report.method_names import supervision_of
from fdbpl.report.protocols import sort_datasets
from fdbpl.report.runs import Run, printable
from fdbpl.templates import fill_template

REGIONS = 24  # of a data set on the page
MOST_IMAGES = 128  # that they are chosen from
SIDE = 128  # pixels, as they are shown


@dataclass(frozen=True)
class Region:
    """One region; opinions are (class name, probability), the most probable first.

    Attributes:
        jpeg: data URI. weight: w = 1 - H(p) / ln C of the teacher's distribution.
        negative: of the negative space; empty where there is none.
    """

    jpeg: str
    image: str
    weight: float
    teacher: list[tuple[str, float]]
    positive: list[tuple[str, float]]
    negative: list[tuple[str, float]]


@dataclass(frozen=True)
class Gallery:
    """Regions of one data set, or why there are none."""

    dataset: str
    run: str
    regions: list[Region] = field(default_factory=list)
    total: int = 0
    reason: str = ""


def galleries(output: Path, results: Results) -> list[Gallery]:
    """One for each data set with a finished FDBPL run: of FDBPL itself, then of the most shots, then of the first."""
    chosen: dict[str, Run] = {}
    for run in results.runs:
        if run.finished and run.exact and not run.tested and supervision_of(run.trainer) == "bank":
            before = chosen.get(run.dataset, run)
            chosen[run.dataset] = max(before, run, key=lambda one: (one.trainer == "FDBPL", one.shots))
    count = REGIONS if len(chosen) <= 3 else REGIONS // 2
    bar = tqdm(sort_datasets(chosen), desc="Cutting regions", unit="data set", disable=None, leave=False)
    return [_gallery(output, chosen[dataset], count) for dataset in bar]


def _gallery(output: Path, run: Run, count: int) -> Gallery:
    try:
        regions, total = _regions(output, run, count)
    except UserError as error:
        return Gallery(run.dataset, run.path, reason=printable(str(error)))
    except Exception as error:  # whatever the files hold, the rest of the report comes
        return Gallery(run.dataset, run.path, reason=printable(f"{type(error).__name__}: {error}"))
    return Gallery(run.dataset, run.path, regions, total)


def _regions(output: Path, run: Run, count: int) -> tuple[list[Region], int]:
    """`count` regions of the run's training images and how many they stand for.

    Raises:
        UserError: bank, images, weights or code are not at hand.
    """
    bank = bank_of(output, run)
    if bank is None:
        raise UserError("its region bank is not here any more")
    import torch

    from fdbpl.engine import bank_discovery, teachers
    from fdbpl.engine.batch import View
    from fdbpl.engine.trained_run import load_run
    from fdbpl.pipelines import RegionRequests
    from fdbpl.pipelines.torchvision import TorchvisionPipeline
    from fdbpl.regions.lookup import RegionLookup

    finished = load_run(run.folder)
    dataset = _dataset(finished.cfg, bank)
    root, images = bank_discovery.training_images(finished.cfg, dataset)
    images = images[:: max(len(images) // MOST_IMAGES, 1)]

    per_image = finished.cfg.REGIONS.PER_IMAGE
    prompts = fill_template(teachers.template(finished.cfg, dataset), dataset.classnames)
    lookup = RegionLookup(bank, images, per_image, prompts)
    image, number = torch.meshgrid(torch.arange(len(images)), torch.arange(per_image), indexing="ij")
    image, number = image.flatten(), number.flatten()
    weights = 1 - lookup.entropy(image, number)
    chosen = _spread_out(weights.numpy(), image.numpy(), count)
    image, number, weights = image[chosen], number[chosen], weights[chosen]

    def cut(side: int) -> torch.Tensor:
        """uint8 [count, 3, side, side]."""
        requests = RegionRequests(
            images, image.numpy(), lookup.boxes(image, number).numpy(), lookup.flips(image, number).numpy()
        )
        parts = list(TorchvisionPipeline(root, side, count)(requests))
        return torch.cat([pixels for _, pixels in parts])

    with torch.no_grad(), redirect_stdout(io.StringIO()):
        student, negative = finished.student(), finished.negative_prompt_learner()
        spaces = [] if negative is None else [negative()]
        x = student.image_features(View(images=cut(student.backbone.image_size)))
        said = [student.logits(x, features) for features in student.text_features(*spaces, image_features=x)]
    opinions = [_top(logits, dataset.classnames, most) for logits, most in zip(
        (lookup.teacher_logits(image, number), *said), (3, 2, 2), strict=False
    )]  # fmt: skip
    if len(opinions) == 2:
        opinions.append([[]] * count)
    rows = zip(cut(SIDE), image.tolist(), weights.tolist(), *opinions, strict=True)
    found = [Region(_jpeg(pixels), images[place], weight, *tops) for pixels, place, weight, *tops in rows]
    return found, len(images) * per_image


def _dataset(cfg, bank: Path):
    """The run's data set, read again; nothing is drawn or downloaded for it.

    Raises:
        UserError: its images are not where the run found them.
    """
    from fdbpl.engine.registry import CHECKOUT
    from fdbpl.regions.bank import RegionBank

    if not (CHECKOUT / "datasets" / "__init__.py").is_file():
        raise UserError("its data set is read by a checkout of FDBPL alone; run the report there")
    from dassl.data.datasets import DATASET_REGISTRY, build_dataset
    from yacs.config import CfgNode

    import datasets

    with redirect_stdout(io.StringIO()):
        datasets.extend_cfg(CfgNode({"DATASET": {}}))  # imports them, which registers them
    root = DATASET_REGISTRY.get(cfg.DATASET.NAME).root_of(cfg)
    known = next((shard.images[0] for shard in RegionBank.open(bank).shards()), "")
    if not known or not Path(root, known).is_file():
        raise UserError(f"its images are not at {root} any more")
    with redirect_stdout(io.StringIO()):
        return build_dataset(cfg)


def _spread_out(weights: np.ndarray, images: np.ndarray, count: int) -> np.ndarray:
    """`count` places from the largest to the smallest weight at even quantiles, of different images where it can be."""
    order = np.argsort(-weights, kind="stable")
    used, chosen = set(), []
    slack = max(len(order) // (2 * count), 1)
    for place in np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int):
        near = sorted(range(max(place - slack + 1, 0), min(place + slack, len(order))), key=lambda at: abs(at - place))
        best = next((at for at in near if images[order[at]] not in used), place)
        used.add(images[order[best]])
        chosen.append(best)
    return order[sorted(chosen)]


def _top(logits, names: list[str], most: int) -> list[list[tuple[str, float]]]:
    """The `most` likeliest classes of each row, with their probabilities."""
    probabilities, classes = logits.softmax(-1).topk(min(most, len(names)), dim=-1)
    return [
        [(printable(names[number]), value) for number, value in zip(row, values, strict=True)]
        for row, values in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]


def _jpeg(pixels) -> str:
    """uint8 [3, S, S] -> a data URI."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()).save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
