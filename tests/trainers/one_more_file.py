"""Import of the examples of CONTRIBUTING.md as if they were in trainers/."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dassl.engine import TRAINER_REGISTRY

import trainers
from fdbpl.engine import registry
from fdbpl.engine.registry import TRAINERS


@contextmanager
def put_into_trainers(folder: str, module: str) -> Iterator[None]:
    """Make a module of tests/trainers/<folder> importable from trainers/ until the context ends."""
    registry.import_trainers()  # modules first imported inside the context would be removed with it
    (table,) = (value for value in vars(TRAINER_REGISTRY).values() if isinstance(value, dict))
    before = [(registered, dict(registered)) for registered in (table, TRAINERS)]
    path = str(Path(__file__).parent / folder)
    trainers.__path__.append(path)
    yield
    trainers.__path__.remove(path)
    sys.modules.pop(f"trainers.{module}", None)
    for registered, as_it_was in before:
        registered.clear()
        registered.update(as_it_was)
