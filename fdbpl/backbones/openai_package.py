"""Import of OpenAI's `clip` package, even if another `clip` shadows it: forks of CoOp contain an edited copy."""

import importlib
import importlib.util
import sys
import warnings
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

from fdbpl.errors import UserError

DISTRIBUTIONS = ("openai-clip", "clip")  # as a package, or installed from its repository
PRIVATE_NAME = "fdbpl._openai_clip"


@cache
def clip_package() -> ModuleType:
    """Import the installed package, under a private name if `import clip` leads to another one.

    Raises:
        UserError: it is missing, or the unrelated clipboard tool `clip` is installed instead.
    """
    try:
        with warnings.catch_warnings():  # its use of pkg_resources is outdated, and pinned in requirements.txt
            warnings.simplefilter("ignore")
            installed = _installed()
            if installed in (None, _shadowing()):
                package = importlib.import_module("clip")
                importlib.import_module("clip.model")
            else:
                package = _load(installed)
    except ModuleNotFoundError as error:
        missing = "setuptools<81" if error.name == "pkg_resources" else "openai-clip"
        raise UserError(f"OpenAI's clip package cannot be imported ({error}). Run: pip install '{missing}'") from error
    if not hasattr(package, "tokenize"):
        where = getattr(package, "__file__", None) or "a folder named clip"
        raise UserError(
            f"Another package called clip is installed instead of OpenAI's, at {where}. "
            "Run: pip uninstall -y clip && pip install openai-clip"
        )
    return package


def _installed() -> Path | None:
    """Return the folder of the installed package; None if there is none."""
    for name in DISTRIBUTIONS:
        try:
            folder = Path(str(metadata.distribution(name).locate_file("clip"))).resolve()
        except metadata.PackageNotFoundError:
            continue
        if (folder / "model.py").is_file():
            return folder
    return None


def _shadowing() -> Path | None:
    """Return the folder that `import clip` would import from."""
    spec = sys.modules["clip"].__spec__ if "clip" in sys.modules else importlib.util.find_spec("clip")
    return Path(spec.origin).resolve().parent if spec is not None and spec.origin else None


def _load(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        PRIVATE_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None  # a file was named
    package = importlib.util.module_from_spec(spec)
    sys.modules[PRIVATE_NAME] = package
    spec.loader.exec_module(package)
    importlib.import_module(f"{PRIVATE_NAME}.model")
    return package
