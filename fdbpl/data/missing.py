"""List the data sets without images: `python -m fdbpl.data.missing --root DATA NAME ...`."""

from argparse import ArgumentParser
from pathlib import Path

from fdbpl.config import read_yaml
from fdbpl.errors import cli_error_handler


def main() -> None:
    parser = ArgumentParser(prog="python -m fdbpl.data.missing", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    with cli_error_handler():
        from third_party import use_dassl

        use_dassl()
        from fdbpl.engine.registry import default_config

        default_config()  # registers the data sets
        missing = {name: missing_folder(name, arguments.root) for name in arguments.names}
        places = [f"{name} ({folder})" for name, folder in missing.items() if folder is not None]
        if places:
            print(f"missing data sets, expected below {arguments.root}: {', '.join(places)}")


def missing_folder(name: str, root: Path) -> Path | None:
    """The folder below `root` in which the images are expected; None if they are there, or if none are expected."""
    from dassl.data.datasets import DATASET_REGISTRY

    if name == "folder":  # the user's own images, which are not below the root
        return None
    kind = DATASET_REGISTRY.get(read_yaml(f"configs/datasets/{name}.yaml")["DATASET.NAME"])
    folder = Path(kind.dataset_dir, kind.image_dir)
    return None if (root.expanduser() / folder).exists() or kind.__module__.startswith("datasets.demo") else folder


if __name__ == "__main__":
    main()
