"""Settings of a run, as its record holds them: which runs may be averaged, and what tells the others apart."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from fdbpl.runs.folder import NOT_IDENTITY, identity

# the seed, and what a table says in its heading, columns or row names
ELSEWHERE = {
    "SEED",
    "TRAINER.NAME",
    "DATASET.NAME",
    "DATASET.NUM_SHOTS",
    "DATASET.SUBSAMPLE_CLASSES",
    "MODEL.BACKBONE.NAME",
}
BY_THE_SCRIPTS = {"DATASET.FOLDER", "DATASET.FOLDER_DIGEST"}  # overrides that no user typed
OF_A_TEST = ("TRAINER.", "MODEL.", "INPUT.", "DATASET.", "TEST.")  # sections that can change a test of given weights
SHOWN = 3  # keys in a name


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that runs of one cell of a table share: all but the seed, places and what the table itself says.

    Args:
        config: {"A.B": value}, as recorded.
    """
    return {key: value for key, value in identity(dict(config)).items() if key not in ELSEWHERE}


def overrides_of(command: list[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded values of the keys that the command line overrides: those that differ from the files."""
    words, keys = [word for word in command if word != "--"], set()
    while len(words) >= 2 and words[-2] in config:
        keys.add(words[-2])
        words = words[:-2]
    return {key: config[key] for key in sorted(keys - NOT_IDENTITY - ELSEWHERE - BY_THE_SCRIPTS)}


def digest(settings: Mapping[str, Any]) -> str:
    """Hex digest of settings, 12 digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def differing(settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The keys that have more than one value, sorted; a key that a record lacks differs from any value."""
    several = list(settings)
    keys = {key for one in several for key in one}
    return sorted(key for key in keys if len({repr(one.get(key)) for one in several}) > 1)


def conflicting(facts: Iterable[Mapping[str, object]]) -> list[str]:
    """The keys that have more than one known value, sorted; None is unknown and agrees with any value."""
    several = list(facts)
    keys = {key for one in several for key in one}
    return sorted(key for key in keys if len({one[key] for one in several if one.get(key) is not None}) > 1)


def changed_for_test(training: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a test that differ from its training's and can change its result, as {"test A.B": value}."""
    keys = [key for key in differing([training, test]) if key.startswith(OF_A_TEST)]
    return {f"test {key}": test.get(key) for key in keys}


def described(settings: Mapping[str, Any]) -> str:
    """`A.B=1, A.C=2`; where there are many, some of them and a digest of all."""
    parts = [f"{key}={_text(value)}" for key, value in settings.items()]
    more = f" and {len(parts) - SHOWN} more, {digest(settings)[:6]}" if len(parts) > SHOWN else ""
    return ", ".join(parts[:SHOWN]) + more


def _text(value: object) -> str:
    text = "not recorded" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:30]}...{digest({'': value})[:6]}"
