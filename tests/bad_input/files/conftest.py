"""The tiny CLIPs and images of tests/trainers, and the workspace built from them."""

from ...trainers.conftest import cfg_in, data_root, student_file, teacher_file  # noqa: F401
from .workspace import prepared, workspace  # noqa: F401
