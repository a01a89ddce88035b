"""CSV file of the predictions on a test set."""

import csv
import os
from pathlib import Path

from torch import Tensor

from fdbpl.io.atomic import atomic_open


def write_predictions(file: Path, items: list, root: str, classnames: list[str], logits: Tensor) -> None:
    """Write one row per image: path, label, prediction and the probability of each class.

    Args:
        items: N images (Dassl's Datum).
        root: folder that the paths are relative to.
        logits: float32 [N, C], at the model's scale.

    Raises:
        SystemFailure: the file cannot be written.
    """
    with atomic_open(file, errors="surrogateescape") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["path", "label", "prediction", *classnames])
        for item, row in zip(items, logits.softmax(dim=-1).tolist(), strict=True):
            names = [classnames[item.label], classnames[max(range(len(row)), key=row.__getitem__)]]
            table.writerow([os.path.relpath(item.impath, root), *names, *(f"{probability:.8g}" for probability in row)])
