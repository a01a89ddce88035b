"""What train.py prints, and where it stands afterwards."""

import sys


def test_each_run_of_a_process_has_a_log_of_its_own(train_py):
    before = sys.stdout
    first = train_py("CoOp", "first", "--no-train")
    log = (first / "log.txt").read_text()
    second = train_py("CoOp", "second", "--no-train")
    assert sys.stdout is before
    assert (first / "log.txt").read_text() == log
    assert "Config" in (second / "log.txt").read_text()
