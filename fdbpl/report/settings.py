"""Comparison and description of the settings of runs: which runs may be averaged, and how the others differ."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fdbpl.config import current_key
from fdbpl.runs.folder import NOT_IDENTITY, identity

Settings = Mapping[str, Any]  # {"A.B": value}

# the seed, and what the heading, the columns or the row names of a table show
SHOWN_IN_TABLES = {
    "SEED",
    "TRAINER.NAME",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "MODEL.BACKBONE.NAME",
}
SET_BY_SCRIPTS = {"DATASET.FOLDER", "DATASET.FOLDER_DIGEST"}  # overrides that no user typed
TEST_SECTIONS = ("TRAINER.", "MODEL.", "INPUT.", "DATASET.", "TEST.")  # can change a test of given weights
MAX_KEYS = 3  # in a description


def settings_of(config: Settings) -> dict[str, Any]:
    """Select the settings that must be equal in runs that are averaged over seeds."""
    return {key: value for key, value in identity(dict(config)).items() if key not in SHOWN_IN_TABLES}


def overrides_of(command: list[str], config: Settings) -> dict[str, Any]:
    """Values in `config` of the keys that a command line overrides with KEY VALUE pairs at its end."""
    words, keys = [word for word in command if word != "--"], set()
    while len(words) >= 2 and (key := current_key(words[-2])) in config:
        keys.add(key)
        words = words[:-2]
    return {key: config[key] for key in sorted(keys - NOT_IDENTITY - SHOWN_IN_TABLES - SET_BY_SCRIPTS)}


def digest(settings: Settings) -> str:
    """Hex digest of settings, 12 digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def differing_keys(settings: Iterable[Settings], unknown: str = "") -> list[str]:
    """Sorted keys with more than one value. A missing key has the value None.

    Args:
        unknown: repr of a value that agrees with any other: "None" for facts that may be missing in a record.
    """
    several = list(settings)
    values = {key: {repr(one.get(key)) for one in several} - {unknown} for one in several for key in one}
    return sorted(key for key in values if len(values[key]) > 1)


def changed_for_test(training: Settings, test: Settings) -> dict[str, Any]:
    """Settings of a test that differ from its training's and can change its result, as {"test A.B": value}."""
    keys = [key for key in differing_keys([training, test]) if key.startswith(TEST_SECTIONS)]
    return {f"test {key}": test.get(key) for key in keys}


def describe(settings: Settings) -> str:
    """Format settings as `A.B=1, A.C=2`; of many settings only some, with a digest of all."""
    parts = [f"{key}={_describe_value(value)}" for key, value in settings.items()]
    more = f" and {len(parts) - MAX_KEYS} more, {digest(settings)[:6]}" if len(parts) > MAX_KEYS else ""
    return ", ".join(parts[:MAX_KEYS]) + more


def _describe_value(value: object) -> str:
    text = "not recorded" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:30]}...{digest({'': value})[:6]}"
