"""Data sets whose images are not on this machine."""

from collections.abc import Iterable
from pathlib import Path

from fdbpl.config import read_yaml


def missing_datasets(names: Iterable[str], root: Path) -> str:
    """Return a line that lists the data sets of configs/datasets without images; "" if there are none."""
    missing = {name: missing_folder(name, root) for name in names}
    places = [f"{name} ({folder})" for name, folder in missing.items() if folder is not None]
    return f"missing data sets, expected below {root}: {', '.join(places)}" if places else ""


def missing_folder(name: str, root: Path) -> Path | None:
    """Return the folder in which images are expected but missing; None if they exist or none are expected."""
    if name == "folder":  # the user's own images, which are not below the root
        return None
    from fdbpl.engine.registry import default_config

    default_config()  # registers the data sets
    from dassl.data.datasets import DATASET_REGISTRY

    kind = DATASET_REGISTRY.get(read_yaml(f"configs/datasets/{name}.yaml")["DATASET.NAME"])
    folder = Path(kind.dataset_dir, kind.image_dir)
    return None if (root.expanduser() / folder).exists() or kind.__module__.startswith("datasets.demo") else folder
