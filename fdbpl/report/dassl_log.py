"""What a log of Dassl says: the header's arguments and configuration, the epochs, the result."""

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# upstream's Dassl prints the first, the Dassl inside KgCoOp and the parsers of MaPLe, PromptSRC and KDPL the second
END_OF_TRAINING = ("Finish training", "Finished training")
RESULT = "=> result"

PROGRESS = re.compile(r"epoch \[(\d+)/(\d+)\] batch \[(\d+)/(\d+)\]")
LOSS = re.compile(r" loss (\S+) \((\S+)\)")
RATE = re.compile(r" lr (\S+)")
ACCURACY = re.compile(r"\* accuracy: ([\d.eE+-]+)%")
BANK = re.compile(r"Region bank: (.+) \((?:teacher|teacher and student) looked up")


@dataclass
class DasslLog:
    """One log file.

    Attributes:
        arguments: of the header's `** Arguments **`, as text.
        config: of its `** Config **`, as text by dotted key.
        epoch, epochs: the last epoch that was begun, and how many there were to be; 0 = none.
        ended: the end of the training, or of the test of an evaluation, was reached.
        accuracy: the last one behind that end, in percent, as printed.
        losses: mean loss of each epoch, up to its last printed batch.
        rates: learning rate of each epoch.
        bank: folder of the region bank that was read; "" = none.
    """

    arguments: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 0
    ended: bool = False
    accuracy: float | None = None
    losses: dict[int, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    bank: str = ""

    @property
    def tests(self) -> bool:
        """A run with --eval-only."""
        return self.arguments.get("eval_only") == "True"


def read_log(file: Path) -> DasslLog:
    """The log in `file`; what it does not say stays empty.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_log(file.read_text(encoding="utf-8", errors="replace").splitlines())


def parse_log(lines: Iterable[str]) -> DasslLog:
    log, section = DasslLog(), ""
    keys: list[str] = []
    for line in lines:
        text = line.strip()
        if text in ("** Arguments **", "** Config **"):
            section = text.strip("* ").lower()
        elif text.startswith("Collecting env info"):
            section = ""
        elif section == "arguments" and ":" in line:
            key, _, value = line.partition(":")
            log.arguments[key.strip()] = value.strip()
        elif section == "config" and ":" in line and not line.startswith("*"):
            _config_line(log.config, keys, line)
        elif not section:
            _body_line(log, line, text)
    return log


def _config_line(config: dict[str, str], keys: list[str], line: str) -> None:
    """A line of yacs: two spaces of indentation a level. Not quite YAML: texts stand there without quotes."""
    depth = (len(line) - len(line.lstrip(" "))) // 2
    key, _, value = line.strip().partition(":")
    del keys[depth:]
    keys.append(key)
    config[".".join(keys)] = value.strip()


def _body_line(log: DasslLog, line: str, text: str) -> None:
    progress = PROGRESS.match(text)
    if progress:
        _progress_line(log, text, *map(int, progress.groups()))
    elif text in END_OF_TRAINING or (text == RESULT and log.tests):
        log.ended = True
    elif log.ended and (accuracy := ACCURACY.match(text)):
        log.accuracy = _number(accuracy[1])
    elif bank := BANK.match(line):
        log.bank = bank[1]


def _progress_line(log: DasslLog, text: str, epoch: int, epochs: int, batch: int, batches: int) -> None:
    log.epoch, log.epochs = epoch, epochs
    loss, rate = LOSS.search(text), RATE.search(text)
    if loss and (mean := _number(loss[2])) is not None:
        log.losses[epoch] = mean
    if rate and (value := _number(rate[1])) is not None:
        if batch < batches:
            log.rates[epoch] = value
        elif epoch < epochs:  # with the last batch Dassl prints the next epoch's
            log.rates.setdefault(epoch + 1, value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def overrides(log: DasslLog) -> list[str]:
    """The trailing KEY VALUE words of the command, less those that say which images and classes."""
    try:
        words = [str(word) for word in ast.literal_eval(log.arguments.get("opts", "[]"))]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return []
    pairs = zip(words[::2], words[1::2], strict=False)
    return [word for pair in pairs if pair[0] not in PROTOCOL_KEYS for word in pair]


PROTOCOL_KEYS = ("DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES")
