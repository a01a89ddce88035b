"""Gallery of regions with the predictions of the teacher and of the student's two prompt spaces.

The only part of the report that needs torch, the region bank and the image files.
"""

import base64
import io
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import fdbpl.engine  # noqa: F401  # makes `import dassl` work

# isort: split
import numpy as np
import torch
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from tqdm import tqdm
from yacs.config import CfgNode

from fdbpl.engine import bank_discovery, registry, teachers
from fdbpl.engine.batch import TrainBatch
from fdbpl.engine.image_dataset import decoding_of
from fdbpl.engine.trained_run import load_run
from fdbpl.errors import UserError
from fdbpl.io.image_reading import UnreadableImage, read_image
from fdbpl.pipelines import RegionRequests
from fdbpl.pipelines.torchvision import TorchvisionPipeline
from fdbpl.regions.bank import RegionBank
from fdbpl.regions.lookup import RegionLookup
from fdbpl.report.classes import Tested
from fdbpl.report.cost import banks_of
from fdbpl.report.experiments import Results
from fdbpl.report.method_names import supervision_of
from fdbpl.report.page import Gallery, Region
from fdbpl.report.protocols import sort_datasets
from fdbpl.report.runs import Run, printable

MAX_REGIONS = 24  # per data set
MAX_IMAGES = 128  # whose regions are considered
SIDE = 128  # pixels of a region on the page


def make_galleries(output: Path, results: Results) -> list[Gallery]:
    """A gallery for each data set with a finished FDBPL run, preferably of FDBPL itself and with the most shots."""
    runs = [run for run in results.trainings if supervision_of(run.trainer) == "bank"]
    runs.sort(key=lambda run: (run.trainer == "FDBPL", run.shots, -results.runs.index(run)))
    chosen = {run.dataset: run for run in runs}
    count = MAX_REGIONS if len(chosen) <= 3 else MAX_REGIONS // 2
    galleries = []
    for dataset in tqdm(sort_datasets(chosen), desc="Cropping regions", unit="data set", disable=None, leave=False):
        run = chosen[dataset]
        try:
            galleries.append(Gallery(dataset, run.path, *_make_regions(output, run, count)))
        except Exception as error:  # a broken bank or image must not prevent the rest of the report
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            galleries.append(Gallery(dataset, run.path, reason=printable(f"{kind}{error}")))
    return galleries


def _make_regions(output: Path, run: Run, count: int) -> tuple[list[Region], int]:
    """Select `count` regions of the run's training images.

    Returns:
        The regions, and the number of regions that they were selected from.

    Raises:
        UserError: the bank, the images or the weights do not exist.
    """
    banks = banks_of(output, run)
    if not banks:
        raise UserError("its region bank does not exist any more")
    bank = banks[0]
    trained = load_run(run.folder)
    dataset = _read_dataset(trained.cfg, bank)
    root, images = bank_discovery.training_images(trained.cfg, dataset)
    images = images[:: max(len(images) // MAX_IMAGES, 1)]

    per_image = trained.cfg.REGIONS.PER_IMAGE
    prompts = teachers.teacher_prompts(trained.cfg, dataset, dataset.classnames)
    lookup = RegionLookup(bank, images, per_image, prompts)
    image, number = torch.meshgrid(torch.arange(len(images)), torch.arange(per_image), indexing="ij")
    image, number = image.flatten(), number.flatten()
    weights = 1 - lookup.entropy(image, number)
    chosen = _select(weights.numpy(), image.numpy(), count)
    image, number, weights = image[chosen], number[chosen], weights[chosen]

    def crop(side: int) -> torch.Tensor:
        """The chosen regions, uint8 [count, 3, side, side]."""
        boxes, flips = lookup.boxes(image, number), lookup.flips(image, number)
        pipeline = TorchvisionPipeline(root, side, count, decoding=decoding_of(trained.cfg))
        requests = RegionRequests(images, image.numpy(), boxes.numpy(), flips.numpy())
        return torch.cat([pixels for _, pixels in pipeline(requests)])

    with torch.no_grad(), redirect_stdout(io.StringIO()):
        student, negative = trained.student(), trained.negative_prompt_learner()
        spaces = [] if negative is None else [negative()]
        x = student.image_features(TrainBatch(images=crop(student.backbone.image_size)))
        logits = [student.logits(x, features) for features in student.text_features(*spaces, image_features=x)]
    predictions = [_top(lookup.teacher_logits(image, number), dataset.classnames, 3)]
    predictions += [_top(one, dataset.classnames, 2) for one in logits]
    if negative is None:
        predictions.append([[]] * count)
    rows = zip(crop(SIDE), image.tolist(), weights.tolist(), *predictions, strict=True)
    regions = [Region(_jpeg(to_pil_image(pixels)), images[index], weight, *top) for pixels, index, weight, *top in rows]
    return regions, len(images) * per_image


def make_thumbnails(tested: list[Tested]) -> dict[tuple[str, str], str]:
    """Data URIs of misclassified images in the folder of their data set, by path of the run and of the image."""
    found = {}
    for run, mistakes in ((one.worst_of, one.mistakes) for one in tested if one.worst_of):
        for mistake in mistakes:
            with suppress(UserError, UnreadableImage, OSError, AttributeError):
                cfg = CfgNode(run.record["config"])
                root = Path(_root_of(cfg)).resolve()
                file = next(filter(Path.is_file, (root / mistake.path, Path(mistake.path))), root).resolve()
                if file != root and file.is_relative_to(root):  # an evaluation stores whole paths
                    image = read_image(file, decoding=decoding_of(cfg))
                    image.thumbnail((SIDE, SIDE))
                    found[run.path, mistake.path] = _jpeg(image)
    return found


def _root_of(cfg: CfgNode) -> str:
    """Folder of the run's data set.

    Raises:
        UserError: the data set is not registered.
    """
    registry.default_config()  # registers the data sets of a checkout
    if cfg.DATASET.NAME not in DATASET_REGISTRY.registered_names():
        raise UserError(f"its data set {cfg.DATASET.NAME} is not registered; write the report in a checkout of FDBPL")
    return DATASET_REGISTRY.get(cfg.DATASET.NAME).root_of(cfg)


def _read_dataset(cfg: CfgNode, bank: Path) -> Any:
    """Build the run's data set if its images exist, so that nothing is drawn or downloaded.

    Raises:
        UserError: the data set is not registered, or its images do not exist.
    """
    root = _root_of(cfg)
    known = next((shard.images[0] for shard in RegionBank.open(bank).shards()), "")
    if not known or not Path(root, known).is_file():
        raise UserError(f"its images do not exist at {root} any more")
    with redirect_stdout(io.StringIO()):
        return build_dataset(cfg)


def _select(weights: np.ndarray, images: np.ndarray, count: int) -> np.ndarray:
    """Indices of `count` regions at even quantiles of the weight in falling order, of different images if possible."""
    order = np.argsort(-weights, kind="stable")
    used, chosen = set(), []
    slack = max(len(order) // (2 * count), 1)
    for place in np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int):
        near = sorted(range(max(place - slack + 1, 0), min(place + slack, len(order))), key=lambda at: abs(at - place))
        best = next((at for at in near if images[order[at]] not in used), place)
        used.add(images[order[best]])
        chosen.append(best)
    return order[sorted(chosen)]


def _top(logits: torch.Tensor, names: list[str], count: int) -> list[list[tuple[str, float]]]:
    """Names and probabilities of the `count` most probable classes of each row."""
    probabilities, classes = logits.softmax(-1).topk(min(count, len(names)), dim=-1)
    return [
        [(printable(names[number]), value) for number, value in zip(row, values, strict=True)]
        for row, values in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]


def _jpeg(image: Image.Image) -> str:
    """Encode an image as a data URI."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
