"""Start and stop of a command, with checks that it and its children end properly."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.soak.comparing import Lost, require

TOKEN = "FDBPL_FAULT_TOKEN"  # environment variable of a command and of its children
TIED_TO_PARENT = [sys.executable, "-m", "fdbpl.interruption"]  # sends SIGTERM to the command if this process dies
AWAKE = 4.0  # seconds after which a Python process handles signals
PATIENCE = 90.0  # seconds within which a process must end; torchrun waits 30 s for its processes
RESUMABLE = ("train.py", "fdbpl.protocols", "fdbpl.data.prepare", "fdbpl.regions")  # they print how to resume
STARTING = ("Fatal Python error: init_", "Could not import runpy")  # Python's messages
CODES = {"SIGINT": (130, -signal.SIGINT), "SIGTERM": (143, -signal.SIGTERM), "SIGKILL": (137, -signal.SIGKILL)}
WORDS = {"SIGINT": "interrupted: ", "SIGTERM": "terminated: "}


@dataclass(frozen=True)
class Kill:
    """A signal to the process group of a command, as from Ctrl-C and Slurm, or to the command only, as from `kill`."""

    signal: str
    to: str = "group"

    def __str__(self) -> str:
        return f"{self.signal} to the {self.to}"


@dataclass(frozen=True)
class CommandResult:
    """Result of a command; `hints_printed`: it printed how to resume; `hints_expected`: it should have."""

    killed: bool
    hints_printed: bool
    hints_expected: bool
    output: str
    errors: str


class Command:
    """A running command in its own process group. It ends with this process."""

    def __init__(self, arguments: Sequence[object], environment: dict[str, str], cwd: Path):
        self.token, self.arguments = uuid.uuid4().hex, [*map(str, arguments)]
        self.process = subprocess.Popen(
            [*TIED_TO_PARENT, *self.arguments], env={**environment, TOKEN: self.token}, cwd=cwd, text=True,
            errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def wait(self, condition: Callable[[], bool], patience: float = 300.0) -> bool:
        """Wait until `condition` holds; return False if the command ended before."""
        deadline = time.monotonic() + patience
        while not condition():
            if self.process.poll() is not None:
                return False
            require(time.monotonic() < deadline, f"{self} did not reach the expected state")
            time.sleep(0.01)
        return self.process.poll() is None

    def end(self, kill: Kill) -> CommandResult:
        """Send the signal and wait until all processes have ended.

        Raises:
            Lost: a traceback, a wrong exit code, or a process that keeps running.
        """
        hints_expected = kill.signal != "SIGKILL" and any(self._resumable())
        number = signal.Signals[kill.signal]
        if self.process.poll() is None:
            (os.killpg if kill.to == "group" else os.kill)(self.process.pid, number)
        output, errors = self._communicate()
        self._all_gone()
        code, hints_printed = self.process.returncode, WORDS.get(kill.signal, "\0") in errors
        starting = kill.signal == "SIGINT" and any(word in errors for word in STARTING)
        begun = "in main\n" in errors or not errors.rstrip().endswith("KeyboardInterrupt")
        traceback = "Traceback" in errors and begun and not starting
        require(not traceback, f"{self} ended with a traceback after {kill}: {errors[-2000:]}")
        codes = (0, *CODES[kill.signal], *[1] * starting)
        require(code in codes, f"{self} ended with {code} after {kill}: {errors[-2000:]}")
        return CommandResult(code != 0, hints_printed, hints_expected, output, errors)

    def succeed(self, patience: float = 600.0) -> CommandResult:
        """Wait for the end of the command, which must succeed."""
        output, errors = self._communicate(patience)
        code = self.process.returncode
        require(code == 0, f"{self} failed with {code}: {output[-1000:]}\n{errors[-2000:]}")
        self._all_gone()
        return CommandResult(False, False, False, output, errors)

    def fail(self, code: int, message: str, patience: float = 600.0) -> CommandResult:
        """Wait for the end of the command, which must fail with this code and message and no traceback."""
        output, errors = self._communicate(patience)
        wrong = [self.process.returncode != code, message not in errors, "Traceback" in errors, "Exception" in errors]
        require(not any(wrong), f"{self} ended with {self.process.returncode}: {errors[-2000:]}")
        self._all_gone()
        return CommandResult(False, False, False, output, errors)

    def members(self) -> dict[int, str]:
        """Return the command lines of the running processes of the command by process ID."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"{TOKEN}={self.token}".encode() in (entry / "environ").read_bytes():
                        line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                        found[int(entry.name)] = line.decode("utf-8", "replace")
                except OSError:
                    continue  # it ended or belongs to another user
        return {number: line for number, line in found.items() if line}  # a zombie has no command line

    def _communicate(self, patience: float = PATIENCE) -> tuple[str, str]:
        try:
            return self.process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            left = "; ".join(f"{number} {line[:100]}" for number, line in self.members().items())
            self._kill_all()
            raise Lost(f"{self} did not end within {patience:.0f} s: {left}") from None

    def _all_gone(self, patience: float = 15.0) -> None:
        deadline = time.monotonic() + patience
        while members := self.members():
            if time.monotonic() > deadline:
                self._kill_all()
                raise Lost(f"processes of {self} kept running: {'; '.join(members.values())[:500]}")
            time.sleep(0.05)

    def _kill_all(self) -> None:
        for number in self.members():
            os.kill(number, signal.SIGKILL)

    def _resumable(self) -> list[int]:
        """Return the processes that print how to resume when they are interrupted."""
        now, tick = float(Path("/proc/uptime").read_text().split()[0]), os.sysconf("SC_CLK_TCK")
        found = []
        for number, line in self.members().items():
            try:
                begun = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19]) / tick
            except OSError:
                continue
            if now - begun > AWAKE and any(word in line for word in RESUMABLE):
                found.append(number)
        return found

    def __str__(self) -> str:
        return " ".join(self.arguments)
