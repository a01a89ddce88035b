"""Word lists: KDPL's for class-agnostic distillation, 20,930 words, downloaded once and checked by SHA-256."""

import csv
import os
from pathlib import Path

from torch.hub import download_url_to_file

from fdbpl.errors import SystemFailure, UserError

URL = (
    "https://raw.githubusercontent.com/miccunifi/KDPL/76da8da2bad8a5c0842dfc25f901f1d69ad2aabd/"
    "src/classnames_dictionay.csv"
)
SHA256 = "286bc637c886dea1daf9083b1ab07ca5e8ffcb8e96209d41e5ed1d21d8047063"


def read_vocabulary(file: str, key: str = "TRAINER.KDPL.VOCABULARY") -> list[str]:
    """Read the words of `file`, one per line; a first line "ClassName" is a heading. "" = KDPL's list, downloaded.

    Args:
        key: configuration key that names the file, for messages.

    Raises:
        UserError: there is no such file, it is not a text file, or it has fewer than two words.
        SystemFailure: the download failed.
    """
    path = Path(file).expanduser() if file else _download()
    if not path.is_file():
        raise UserError(f"The word list {path} ({key}) does not exist; give a text file with one word per line")
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            words = [row[0].strip() for row in csv.reader(lines) if row and row[0].strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"The word list {path} ({key}) cannot be read ({error}); give a text file in UTF-8 with one word per line"
        ) from error
    words = list(dict.fromkeys(words[1:] if words[:1] == ["ClassName"] else words))
    if len(words) < 2:
        raise UserError(
            f"The word list {path} has {len(words)} words, but at least two are needed; give a text file with one word "
            "per line"
        )
    return words


def _download() -> Path:
    folder = Path(os.environ.get("FDBPL_CACHE", "~/.cache/fdbpl")).expanduser()
    path = folder / "kdpl_vocabulary.csv"
    if not path.is_file():
        print(f"Downloading KDPL's word list to {path}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            download_url_to_file(URL, str(path), SHA256, progress=False)  # atomic; checks the hash
        except (OSError, RuntimeError) as error:
            raise SystemFailure(
                f"KDPL's word list could not be downloaded from {URL} ({error}). Download it to {path}, or give a file "
                "with one word per line as TRAINER.KDPL.VOCABULARY"
            ) from error
    return path
