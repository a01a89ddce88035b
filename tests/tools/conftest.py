"""Inputs of the benchmark for tiny models."""

import pytest

from tools.benchmark.profiles import PROFILES
from tools.benchmark.synthetic_inputs import SyntheticInputs


@pytest.fixture(scope="session")
def inputs(tmp_path_factory) -> SyntheticInputs:
    return SyntheticInputs(tmp_path_factory.mktemp("bench"), PROFILES["tiny"].images, PROFILES["tiny"].classes)
