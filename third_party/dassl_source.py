"""Choice of the Dassl to import: FDBPL_DASSL, installed, checkout in this folder, or our stand-in, in this order."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from fdbpl.errors import UserError

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE / "Dassl.pytorch"
STANDIN = HERE / "standin"


def use_dassl() -> str:
    """Import Dassl, apply the compatibility patches, and return one line that describes it.

    Raises:
        UserError: FDBPL_DASSL holds no Dassl, or a Dassl lacks packages that it needs.
    """
    if "dassl" not in sys.modules:
        folder = _folder()
        if folder is not None:
            sys.path.insert(0, str(folder))
    os.environ.setdefault("OUTDATED_IGNORE", "1")  # wilds, imported by upstream, warns when offline
    try:
        dassl = importlib.import_module("dassl")
        importlib.import_module("dassl.engine")
    except ModuleNotFoundError as error:
        raise UserError(
            f"Dassl needs the package {error.name}, which is not installed. "
            "Run: pip install -r requirements-upstream-dassl.txt (or remove that Dassl to use the stand-in)"
        ) from error
    from .dassl_patches import apply_patches

    patched = apply_patches()
    return _describe(dassl, patched)


def _folder() -> Path | None:
    """Return the folder to put on sys.path, or None if Dassl is installed."""
    chosen = os.environ.get("FDBPL_DASSL")
    if chosen:
        if not Path(chosen, "dassl", "__init__.py").is_file():
            raise UserError(f"There is no Dassl.pytorch in the folder of FDBPL_DASSL: {chosen}. Check the path")
        return Path(chosen).resolve()
    if importlib.util.find_spec("dassl") is not None:
        return None
    return CHECKOUT if (CHECKOUT / "dassl" / "__init__.py").is_file() else STANDIN


def _describe(dassl, patched: list[str]) -> str:
    folder = Path(dassl.__file__).resolve().parents[1]
    version = getattr(dassl, "__version__", "unknown version")
    if folder == STANDIN:
        return f"Dassl: stand-in {version} (third_party/standin)"
    what = "installed Dassl.pytorch" if "site-packages" in folder.parts else "Dassl.pytorch checkout"
    patches = f", patched: {', '.join(patched)}" if patched else ""
    return f"Dassl: {what} {version}{_commit(folder)} ({folder}){patches}"


def _commit(folder: Path) -> str:
    if not (folder / ".git").exists():
        return ""
    run = subprocess.run(["git", "-C", str(folder), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return f" at {run.stdout.strip()}" if run.returncode == 0 else ""
