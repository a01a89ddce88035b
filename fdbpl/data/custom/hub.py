"""Data sets of the Hugging Face hub: hf://OWNER/NAME is downloaded once to the cache."""

import os
import re
from pathlib import Path

from fdbpl.errors import SystemFailure, UserError, shortened

PREFIX = "hf://"
_NAME = re.compile(r"hf://(?:datasets/)?([\w.-]+/[\w.-]+)((?:/[\w.-]+)*)/?")


def local_path(place: str) -> Path:
    """Return the absolute path of a place; the download folder if it is hf://OWNER/NAME or hf://OWNER/NAME/FOLDER.

    Raises:
        UserError: the name is not of this form.
    """
    if not place.startswith(PREFIX):
        return Path(os.path.abspath(os.path.expanduser(place)))
    match = _NAME.fullmatch(place)
    if not match or ".." in place:
        raise UserError(f"{place} is not a data set of the hub. Example: hf://OWNER/NAME")
    cache = Path(os.environ.get("FDBPL_CACHE") or "~/.cache/fdbpl").expanduser().absolute()
    return cache / "hub" / match[1].replace("/", "--") / match[2].strip("/")


def download(place: str) -> Path:
    """Download hf://OWNER/NAME unless it is complete, and return its local path; an interrupted download continues.

    Raises:
        UserError: huggingface_hub is missing, or there is no such data set. SystemFailure: the hub cannot be reached.
    """
    path = local_path(place)
    match = _NAME.fullmatch(place)
    if not match:
        return path
    folder = local_path(f"{PREFIX}{match[1]}")
    done = folder.with_name(f"{folder.name}.complete")
    if done.is_file():
        return path
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
    except ImportError as error:
        raise UserError(f"{place} needs huggingface_hub ({error}). Run: pip install huggingface_hub") from error
    print(f"Downloading {place} to {folder}", flush=True)
    try:
        snapshot_download(match[1], repo_type="dataset", local_dir=folder)
    except GatedRepoError as error:
        raise UserError(f"{place} must be requested on its page, and needs a token (huggingface-cli login)") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"the hub has no public data set {match[1]}; check the name") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise SystemFailure(
            f"{place} cannot be downloaded ({shortened(' '.join(str(error).split()))}); check the network and run the "
            "command again"
        ) from error
    except Exception as error:  # of the HTTP library, whose types depend on its version
        if not type(error).__module__.startswith(("httpx", "requests", "httpcore")):
            raise
        raise SystemFailure(
            f"the hub cannot be reached for {place} ({type(error).__name__}); check the network and run the "
            "command again"
        ) from error
    done.touch()
    return path
