"""Consistency checks of a run folder."""

import hashlib
from collections.abc import Iterator
from numbers import Real
from pathlib import Path

from fdbpl.config import RENAMED_KEYS, flatten
from fdbpl.errors import UserError
from fdbpl.findings import NOTE, OK, WRONG, Finding
from fdbpl.io.atomic import read_record
from fdbpl.runs.folder import REMEDY, fingerprint
from fdbpl.runs.validity import Outcome, tested_on_validation


def verify_run(folder: Path) -> Iterator[Finding]:
    """Compare a run folder with its fingerprint, its done marker and the checksums in it."""
    try:
        record = read_record(folder / "run.json", "the record of a run", REMEDY, fingerprint=str, task=str, config=dict)
        old_keys = RENAMED_KEYS.keys() & flatten(record["config"]).keys()  # their fingerprints were of the old names
        expected = fingerprint(record["config"], record["task"], record.get("inputs"))
        if expected != record["fingerprint"] and not old_keys:
            raise UserError(f"The configuration in run.json does not match its fingerprint; {REMEDY}")
        if not (folder / "done.json").is_file():
            yield Finding(OK, folder, "not finished yet")
            return
        done = read_record(folder / "done.json", "the done marker of a run", REMEDY, fingerprint=str)
        metrics = read_record(folder / "metrics.json", "the metrics of a finished run", REMEDY, accuracy=Real)
        if done["fingerprint"] != record["fingerprint"]:
            raise UserError(f"run.json and done.json belong to different runs; {REMEDY}")
        checked = _check_files(folder, done.get("sha256") or {})
    except UserError as error:
        yield Finding(WRONG, folder, str(error))
        return
    yield Finding(OK, folder, f"{checked} checksums match, accuracy {metrics['accuracy']:.2f}")
    reason = tested_on_validation(Outcome(flatten(record["config"]), metrics, record))
    if reason:
        yield Finding(NOTE, folder, reason)


def _check_files(folder: Path, checksums: dict[str, str]) -> int:
    """Compare the files with their SHA-256; their number. Done markers of old versions have no checksums.

    Raises:
        UserError: a file is missing or has changed.
    """
    for name, expected in checksums.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f"{name} is missing. Restore it, or {REMEDY}")
        if hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise UserError(f"{name} has changed since the run finished. Restore it, or {REMEDY}")
    return len(checksums)
