"""The workspace of tests/bad_input/files."""

from ..bad_input.conftest import scratch  # noqa: F401
from ..bad_input.files.workspace import prepared, workspace  # noqa: F401
from ..trainers.conftest import cfg_in, data_root, student_file, teacher_file  # noqa: F401
