"""Progress bars on a terminal, and Dassl's lines in the log."""

import fcntl
import os
import pty
import re
import struct
import termios

SETTINGS = ("OPTIM.MAX_EPOCH", 3, "REGIONS.PER_IMAGE", 3, "DATALOADER.TEST.BATCH_SIZE", 4)


def on_a_terminal(scripts, script: str, *arguments: object, **environment: str) -> str:
    """The output of a script on a terminal of 110 columns."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
        words = ["bash", str(scripts.path(script)), *map(str, arguments)]
        os.execvpe("bash", words, {**scripts.environment, **environment})
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


def test_bars_on_a_terminal_and_lines_in_the_log(scripts, small_images, tmp_path):
    scripts = type(scripts)(tmp_path, small_images)
    written = on_a_terminal(scripts, "few_shot.sh", "folder", 1, "FDBPL", *SETTINGS, SHOTS="2", CFG="demo")
    for bar in ("Labelling regions", "Training", "Testing"):
        assert re.search(rf"\r{bar}: +\d+%\|.*\| \d+/\d+ \[\d\d:\d\d<(\d\d:\d\d|\?)", written), bar
    line = r"epoch \[3/3\] batch \[1/1\] time .* eta 0:00:00"
    assert re.search(rf"\r *\r{line}\r\n", written)  # the bar was cleared before the line
    (folder,) = (scripts.output / "train_all" / "shapes").glob("shots_2/FDBPL/*/seed1")
    log = (folder / "log.txt").read_text()
    assert re.search(rf"^{line}$", log, re.MULTILINE)
    assert "\r" not in log and "%|" not in log
