"""The word list of class-agnostic distillation (KDPL-CA): 20,930 words, obtained once and checked."""

import csv
import os
from pathlib import Path

from fdbpl.errors import SystemFailure, UserError

URL = (
    "https://raw.githubusercontent.com/miccunifi/KDPL/76da8da2bad8a5c0842dfc25f901f1d69ad2aabd/"
    "src/classnames_dictionay.csv"
)
SHA256 = "286bc637c886dea1daf9083b1ab07ca5e8ffcb8e96209d41e5ed1d21d8047063"


def read_vocabulary(file: str) -> list[str]:
    """The words of `file`, one a line (a first line "ClassName" is a heading); "" = KDPL's own list, downloaded.

    Raises:
        UserError: no such file, no text, or no words in it.
        SystemFailure: the list has to be downloaded and cannot be.
    """
    path = Path(file).expanduser() if file else _obtained()
    if not path.is_file():
        raise UserError(
            f"expected a list of words at {path} (TRAINER.KDPL.VOCABULARY), found none; give a file with one a line"
        )
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            words = [row[0].strip() for row in csv.reader(lines) if row and row[0].strip()]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"expected a text file of words at {path} (TRAINER.KDPL.VOCABULARY), found a file that cannot be read "
            f"({error}); give one in UTF-8 with one word a line"
        ) from error
    words = list(dict.fromkeys(words[1:] if words[:1] == ["ClassName"] else words))
    if len(words) < 2:
        raise UserError(f"expected at least two words in {path}, found {len(words)}; give a file with one a line")
    return words


def _obtained() -> Path:
    from torch.hub import download_url_to_file

    folder = Path(os.environ.get("FDBPL_CACHE", "~/.cache/fdbpl")).expanduser()
    path = folder / "kdpl_vocabulary.csv"
    if not path.is_file():
        print(f"Downloading KDPL's word list to {path}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            download_url_to_file(URL, str(path), SHA256, progress=False)  # whole and of this hash, or not at all
        except (OSError, RuntimeError) as error:
            raise SystemFailure(
                f"expected KDPL's word list from {URL}, found {error}; download it to {path}, or give a file with one "
                "word a line as TRAINER.KDPL.VOCABULARY"
            ) from error
    return path
