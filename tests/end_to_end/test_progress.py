"""Bars with the time left on a terminal; Dassl's plain lines in the log and behind a pipe."""

import fcntl
import os
import pty
import re
import struct
import termios

SHORT = ("OPTIM.MAX_EPOCH", 3)


def on_a_terminal(scripts, script: str, *arguments: object) -> str:
    """What a script writes on a terminal of 110 columns."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
        os.execvpe("bash", ["bash", str(scripts.path(script)), *map(str, arguments)], scripts.environment)
    written = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, written[-3000:]
    return written.decode()


def test_bars_on_a_terminal_and_lines_in_the_log(scripts):
    settings = (*SHORT, "REGIONS.PER_IMAGE", 3, "REGIONS.SEED", 7, "DATALOADER.TEST.BATCH_SIZE", 97)  # none there yet
    written = on_a_terminal(scripts, "base2new_train.sh", "demo", 1, "FDBPL", *settings)
    for bar in ("Labelling regions", "Training", "Testing"):
        assert re.search(rf"\r{bar}: +\d+%\|.*\| \d+/\d+ \[\d\d:\d\d<(\d\d:\d\d|\?)", written), bar
    line = r"epoch \[3/3\] batch \[5/7\] time .* eta 0:00:00"
    assert re.search(rf"\r *\r{line}\r\n", written)  # the bar made room for it
    config = "demo+DATALOADER.TEST.BATCH_SIZE=97+OPTIM.MAX_EPOCH=3+REGIONS.PER_IMAGE=3+REGIONS.SEED=7"
    log = (scripts.folder("train_base", "FDBPL", config) / "log.txt").read_text()
    assert re.search(rf"^{line}$", log, re.MULTILINE)
    assert "\r" not in log and "%|" not in log


def test_no_bars_behind_a_pipe(scripts):
    run = scripts.run("base2new_train.sh", "demo", 1, "CoOp", "OPTIM.MAX_EPOCH", 1)
    assert run.returncode == 0 and "%|" not in run.stderr + run.stdout
