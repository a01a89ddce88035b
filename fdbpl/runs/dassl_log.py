"""Parser of Dassl's log: arguments and configuration of its header, epochs, result."""

import ast
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# the first is printed by upstream's Dassl, the second by the Dassl in KgCoOp and the parsers of MaPLe, PromptSRC, KDPL
END_OF_TRAINING = ("Finish training", "Finished training")
RESULT = "=> result"

PROGRESS = re.compile(r"epoch \[(\d+)/(\d+)\] batch \[(\d+)/(\d+)\]")
LOSS = re.compile(r" loss (\S+) \((\S+)\)")
RATE = re.compile(r" lr (\S+)")
ACCURACY = re.compile(r"\* accuracy: ([\d.eE+-]+)%")
BANK = re.compile(r"Region bank(?: of the second teacher)?: (.+) \((?:teacher|teacher and student) looked up")
SKIPPED = re.compile(r"  skipped: (.+)")
PROTOCOL_KEYS = ("DATASET.NUM_SHOTS", "DATASET.SUBSAMPLE_CLASSES")


@dataclass
class DasslLog:
    """Content of a log file; missing parts are empty.

    Attributes:
        arguments: the header's `** Arguments **`, as text.
        config: the header's `** Config **`, as text by dotted key.
        epoch, epochs: the last epoch that was started, and their planned number; 0 = none.
        ended: whether the end of the training, or of the test of an evaluation, was reached.
        accuracy: the last one after that end, in percent, as printed.
        losses, rates: mean loss (up to the last printed batch) and learning rate of each epoch.
        banks: folders of the region banks that were read, that of a second teacher last.
        skipped: counts of the files of custom data that are not used, by reason.
    """

    arguments: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    epoch: int = 0
    epochs: int = 0
    ended: bool = False
    accuracy: float | None = None
    losses: dict[int, float] = field(default_factory=dict)
    rates: dict[int, float] = field(default_factory=dict)
    banks: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def tests(self) -> bool:
        """True if the run had --eval-only."""
        return self.arguments.get("eval_only") == "True"

    @property
    def progress(self) -> str:
        """Progress of an unfinished run."""
        if self.ended:
            return "trained, in its test"
        if self.epoch and not self.tests:
            return f"at epoch {self.epoch} of {self.epochs}"
        return "in its test" if self.tests else "in its first epoch"

    @property
    def overrides(self) -> list[str]:
        """KEY VALUE words of the command, without those that select shots and classes."""
        try:
            words = [str(word) for word in ast.literal_eval(self.arguments.get("opts", "[]"))]
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return []
        pairs = zip(words[::2], words[1::2], strict=False)
        return [word for pair in pairs if pair[0] not in PROTOCOL_KEYS for word in pair]


def read_log(file: Path) -> DasslLog:
    """Parse a log file.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_log(file.read_text(encoding="utf-8", errors="replace").splitlines())


def parse_log(lines: Iterable[str]) -> DasslLog:
    log, section = DasslLog(), ""
    path: list[str] = []
    for line in lines:
        text = line.strip()
        key, colon, value = (part.strip() for part in line.partition(":"))
        if text in ("** Arguments **", "** Config **"):
            section = text.strip("* ")
        elif text.startswith("Collecting env info"):
            section = ""
        elif not section:
            _parse_body(log, line, text)
        elif section == "Arguments" and colon:
            log.arguments[key] = value
        elif colon and not line.startswith("*"):  # yacs: two spaces of indentation per level, texts without quotes
            path = [*path[: (len(line) - len(line.lstrip(" "))) // 2], key]
            log.config[".".join(path)] = value
    return log


def _parse_body(log: DasslLog, line: str, text: str) -> None:
    progress = PROGRESS.match(text)
    if progress:
        _parse_progress(log, text, *map(int, progress.groups()))
    elif text in END_OF_TRAINING or (text == RESULT and log.tests):
        log.ended = True
    elif log.ended and (accuracy := ACCURACY.match(text)):
        log.accuracy = _number(accuracy[1])
    elif bank := BANK.match(line):
        log.banks.append(bank[1])
    elif skipped := SKIPPED.match(line):
        log.skipped = skipped[1]


def _parse_progress(log: DasslLog, text: str, epoch: int, epochs: int, batch: int, batches: int) -> None:
    log.epoch, log.epochs = epoch, epochs
    loss, rate = LOSS.search(text), RATE.search(text)
    if loss and (mean := _number(loss[2])) is not None:
        log.losses[epoch] = mean
    if rate and (value := _number(rate[1])) is not None:
        if batch < batches:
            log.rates[epoch] = value
        elif epoch < epochs:  # with the last batch Dassl prints the learning rate of the next epoch
            log.rates.setdefault(epoch + 1, value)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
