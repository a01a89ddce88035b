"""The tiny CLIPs and pictures of tests/trainers, and the world that is made of them."""

from ...trainers.conftest import cfg_in, data_root, student_file, teacher_file  # noqa: F401
from .worlds import made, world  # noqa: F401
