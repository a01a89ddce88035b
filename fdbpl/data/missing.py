"""Data sets whose images are not on this machine."""

from collections.abc import Iterable
from pathlib import Path


def missing_datasets(names: Iterable[str], root: Path) -> str:
    """Return a line that lists the data sets of configs/datasets without images; "" if there are none."""
    missing = {name: missing_folder(name, root) for name in names}
    places = [f"{name} ({folder})" for name, folder in missing.items() if folder is not None]
    return f"missing data sets, expected below {root}: {', '.join(places)}" if places else ""


def missing_folder(name: str, root: Path) -> Path | None:
    """Return the folder in which images are expected but missing; None if they exist or none are expected."""
    if name == "folder":  # the user's own images, which are not below the root
        return None
    from third_party import use_dassl

    use_dassl()  # before dassl is imported
    from fdbpl.data.prepare.check import dataset_class

    kind = dataset_class(name)
    folder = Path(kind.dataset_dir, kind.image_dir)
    return None if (root.expanduser() / folder).exists() or kind.__module__.startswith("datasets.demo") else folder
