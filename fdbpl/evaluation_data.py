"""Labelled images classified by a trained run: its test images, both halves of them, other data sets, custom data."""

import os
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm import tqdm
from yacs.config import CfgNode

from fdbpl.class_names import spelled_as
from fdbpl.data.custom import hub
from fdbpl.data.custom.dataset import read_custom_data
from fdbpl.data.custom.field_data import find_field_data
from fdbpl.data.prepare.check import CONFIGS
from fdbpl.engine.templates import template_of
from fdbpl.engine.trained_run import TrainedRun
from fdbpl.errors import UserError, enumerated


@dataclass(frozen=True)
class ClassifiedData:
    """Labelled images and their logits.

    Attributes:
        name: of the output folder.
        source: description of the data for people: the data set, or its path.
        classnames: C class names.
        logits: float32 [N, C].
        labels: int64 [N].
        paths: N image files.
        base_images: number of images of base classes, which come first; None unless the setting is joint.
        unreadable: {path: reason} of the images that are left out.
    """

    name: str
    source: str
    classnames: list[str]
    logits: Tensor
    labels: Tensor
    paths: list[str]
    base_images: int | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


def classify_test_images(run: TrainedRun, root: str = "", names: list[str] | None = None) -> ClassifiedData:
    """Classify the run's own test images, from cached features if possible.

    Args:
        root: folder of the data sets; "" = the run's.
        names: class names instead of the run's.

    Raises:
        UserError: the data set is missing, or one of its classes is not among `names`.
    """
    source = f"{run.dataset} ({run.subset} classes)"
    return _classify_dataset(run, "test_images", source, run.data_config(root=root), names, run.template)


def classify_both_halves(run: TrainedRun, root: str = "") -> ClassifiedData:
    """Classify the test images of the base classes, then those of the new ones, among all classes.

    Raises:
        UserError: the data set is missing, or the run cannot serve all classes.
    """
    base, new = (run.test_features(run.data_config(root=root, subset=subset)) for subset in ("base", "new"))
    names = [*base.dataset.classnames, *new.dataset.classnames]
    labels = [
        *(image.label for image in base.images),
        *(len(base.dataset.classnames) + image.label for image in new.images),
    ]
    images = [*base.images, *new.images]
    logits = run.classify_features(torch.cat([base.features, new.features]), names)
    paths = [image.impath for image in images]
    source = f"{run.dataset} (base and new classes)"
    return ClassifiedData("joint", source, names, logits, torch.tensor(labels), paths, base_images=len(base.images))


def classify_data(
    run: TrainedRun, data: str, root: str = "", names: list[str] | None = None, batch_size: int = 0
) -> ClassifiedData:
    """Classify the test images of a data set of configs/datasets, or of custom data.

    Args:
        data: name in configs/datasets, or folder or file.
        root: folder of the data sets, if `data` is a name; "" = the run's.
        names: class names. By default those of a data set; for custom data the run's, or those of the data if they
            share no class.
        batch_size: for custom data; 0 = that of the run's test.

    Raises:
        UserError: the data cannot be read, have no test images, or have a class that is not among the names.
    """
    path = hub.local_path(data)
    known = (data, root) if not path.exists() and (CONFIGS / f"{data}.yaml").is_file() else find_field_data(path)
    if known:
        name, folder = known
        cfg = run.data_config(str(CONFIGS / f"{name}.yaml"), str(folder))
        return _classify_dataset(run, name, name, cfg, names)
    if not data.startswith(hub.PREFIX) and not path.exists():
        raise UserError(
            f"There is no folder or file {data}, and no data set of this name in configs/datasets; check the path"
        )
    return _classify_custom(run, data, names, batch_size)


def _classify_dataset(
    run: TrainedRun, name: str, source: str, cfg: CfgNode, names: list[str] | None, template: str | None = None
) -> ClassifiedData:
    features, images, dataset = run.test_features(cfg)
    template = template or run.trainer_class.choose_template(run.cfg, template_of(cfg, dataset))
    names = names or list(dataset.classnames)
    labels = _labels([image.label for image in images], list(dataset.classnames), names)
    logits = run.classify_features(features, names, template)
    return ClassifiedData(name, source, names, logits, labels, [image.impath for image in images])


def _classify_custom(run: TrainedRun, place: str, names: list[str] | None, batch_size: int) -> ClassifiedData:
    data = read_custom_data(place, training=False)
    print("\n".join(data.notices))
    rows, classnames = data.rows["test"], data.classnames
    if not rows:
        raise UserError(f"{place} has no test images; add some, or change the split in dataset.yaml")
    if not names:
        names = run.classnames if spelled_as(classnames, run.classnames) else classnames
    if len(names) < 2:
        raise UserError(
            f"{names[0]!r} is the only class, so every prediction is right. Give at least two with --classes."
        )
    by_path = {os.path.join(data.folder, path): label for path, label, _ in rows}
    labels = dict(zip(by_path, _labels(list(by_path.values()), classnames, names).tolist(), strict=True))
    paths: list[str] = []
    logits: list[Tensor] = []
    unreadable: dict[str, str] = {}
    with tqdm(total=len(by_path), unit="image", disable=None) as progress:
        for batch in run.classify(list(by_path), names, batch_size):
            paths += batch.paths
            logits.append(batch.logits)
            unreadable |= dict(batch.unreadable)
            progress.update(len(batch.paths) + len(batch.unreadable))
    if not paths:
        raise UserError(f"None of the {len(unreadable)} test images of {place} can be read")
    known = torch.tensor([labels[path] for path in paths])
    return ClassifiedData(data.name, str(data.place), names, torch.cat(logits), known, paths, unreadable=unreadable)


def _labels(labels: list[int], classnames: list[str], names: list[str]) -> Tensor:
    """Convert labels among `classnames` to labels among `names`, int64 [N].

    Raises:
        UserError: the class of an image is not among `names`.
    """
    spelling = spelled_as(classnames, names)
    missing = [classnames[label] for label in sorted(set(labels)) if classnames[label] not in spelling]
    if missing:
        raise UserError(
            f"{len(missing)} classes of the images are not among the {len(names)} classes to choose from "
            f"({enumerated(missing, 3)}); give all classes with --classes"
        )
    index = {name: label for label, name in enumerate(names)}
    return torch.tensor([index[spelling[classnames[label]]] for label in labels])
