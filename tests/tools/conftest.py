"""The benchmark's own world, on tiny towers."""

import pytest

from tools.benchmark.profiles import PROFILES
from tools.benchmark.synthetic_inputs import World


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    return World(tmp_path_factory.mktemp("bench"), PROFILES["tiny"].pictures, PROFILES["tiny"].classes)
