"""The toy trainer and data set of the tests of Dassl's interface."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def toy():
    """The module tests/dassl/toy.py."""
    torch.set_num_threads(1)
    spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def train_with_log(toy):
    """Train the toy in a folder with Dassl's log, which replaces sys.stdout."""

    def train(folder) -> None:
        stdout = sys.stdout
        try:
            toy.train(toy.config(folder))
        finally:
            sys.stdout = stdout

    return train
