"""The workspace of tests/bad_input, for files that are not merely broken."""

from ..bad_input.conftest import scratch  # noqa: F401
from ..bad_input.files.workspace import prepared, workspace  # noqa: F401
from ..trainers.conftest import cfg_in, data_root, student_file, teacher_file  # noqa: F401
