"""Compatibility patches. Each one fixes a Dassl that has upstream's fault, and leaves a correct one unchanged."""

import contextlib
import gc
import io
import logging
import sys
import types

import pytest
import torch
from dassl.engine import trainer
from dassl.optim import lr_scheduler
from dassl.utils import setup_logger, torchtools
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

import third_party.dassl_patches as patches


def test_the_imported_dassl_needs_no_further_patch():
    assert patches.apply_patches() == []  # tests/conftest.py has applied those that were needed
    assert logging.root.manager.disable == logging.NOTSET


@pytest.fixture
def broken_warmup():
    """A warm-up scheduler with upstream's two faults."""

    class BrokenWarmup(LRScheduler):
        def __init__(self, optimizer, successor, warmup_epoch, last_epoch=-1, verbose=False):
            self.successor, self.warmup_epoch = successor, warmup_epoch
            super().__init__(optimizer, last_epoch, verbose, "one argument more than any torch takes")

        def get_lr(self):
            warm = self.last_epoch >= self.warmup_epoch
            return self.successor.get_last_lr() if warm else [1e-5 for _ in self.base_lrs]

        def step(self, epoch=None):
            if self.last_epoch < self.warmup_epoch:
                super().step()
            else:
                self.successor.step()

    return BrokenWarmup


def schedule(kind):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.002)
    return optimizer, kind(optimizer, CosineAnnealingLR(optimizer, 6), 1)


def rates(optimizer, scheduler, epochs):
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_warmup_scheduler(broken_warmup, monkeypatch, tmp_path):
    with pytest.raises(TypeError):
        schedule(broken_warmup)
    monkeypatch.setattr(lr_scheduler, "_BaseWarmupScheduler", broken_warmup, raising=False)
    assert patches.warmup_scheduler() is True
    assert patches.warmup_scheduler() is False
    whole = rates(*schedule(broken_warmup), 6)
    assert whole[:2] == [1e-5, 0.002] and len(set(whole)) == 6
    optimizer, scheduler = schedule(broken_warmup)
    first = rates(optimizer, scheduler, 3)
    torch.save([optimizer.state_dict(), scheduler.state_dict()], tmp_path / "state")
    states = torch.load(tmp_path / "state", weights_only=True)
    optimizer, scheduler = schedule(broken_warmup)
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert first + rates(optimizer, scheduler, 3) == pytest.approx(whole, abs=1e-15)


def test_checkpoint_files(monkeypatch, tmp_path):
    def load_checkpoint(fpath):
        return torch.load(fpath)

    def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
        raise AssertionError("the patch replaces this function")

    for module in (torchtools, trainer):
        monkeypatch.setattr(module, "load_checkpoint", load_checkpoint)
        monkeypatch.setattr(module, "save_checkpoint", save_checkpoint)
    import dassl.utils

    monkeypatch.setattr(dassl.utils, "load_checkpoint", load_checkpoint)
    monkeypatch.setattr(dassl.utils, "save_checkpoint", save_checkpoint)
    assert patches.checkpoint_files() is True
    assert patches.checkpoint_files() is False
    state = {"state_dict": {"module.ctx": torch.arange(3.0)}, "epoch": 7, "val_result": None}
    trainer.save_checkpoint(state, str(tmp_path / "learner"), is_best=True)
    assert sorted(file.name for file in (tmp_path / "learner").iterdir()) == [
        "checkpoint", "model-best.pth.tar", "model.pth.tar-7",
    ]  # fmt: skip
    assert (tmp_path / "learner" / "checkpoint").read_text() == "model.pth.tar-7\n"
    content = dassl.utils.load_checkpoint(str(tmp_path / "learner" / "model.pth.tar-7"))
    assert content["epoch"] == 7 and content["state_dict"]["ctx"].tolist() == [0, 1, 2]


class Payload:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_load_checkpoint_executes_no_code(tmp_path):
    torch.save({"state_dict": {}, "epoch": Payload(tmp_path / "executed")}, tmp_path / "model.pth.tar-1")
    with pytest.raises(Exception, match="(?i)weights.only"):
        torchtools.load_checkpoint(str(tmp_path / "model.pth.tar-1"))
    assert not (tmp_path / "executed").exists()


def test_silenced_logging():
    logging.disable(logging.WARNING)
    try:
        assert patches.silenced_logging() is True
        assert logging.getLogger("fdbpl").isEnabledFor(logging.WARNING)
        assert patches.silenced_logging() is False
    finally:
        logging.disable(logging.NOTSET)


def test_load_model_without_validation_result(monkeypatch, tmp_path):
    def load_model(self, directory, epoch=None):
        val_result = None
        print(f"{val_result:.1f}")

    monkeypatch.setattr(trainer.TrainerBase, "load_model", load_model)
    saved = trainer.TrainerBase()
    saved.register_model("learner", torch.nn.Linear(2, 1))
    saved.save_model(4, str(tmp_path))
    with pytest.raises(TypeError):
        saved.load_model(str(tmp_path), epoch=5)
    assert patches.load_model_without_validation_result() is True
    assert patches.load_model_without_validation_result() is False
    fresh = trainer.TrainerBase()
    fresh.register_model("learner", torch.nn.Linear(2, 1))
    fresh.load_model(str(tmp_path), epoch=5)
    assert torch.equal(fresh._models["learner"].weight, saved._models["learner"].weight)
    with pytest.raises(FileNotFoundError):
        fresh.load_model(str(tmp_path))  # there is no model-best.pth.tar


class ClosingLogger:
    """A logger with upstream's fault: it closes the console when it is closed or garbage-collected."""

    def __init__(self, fpath=None):
        self.console = sys.stdout
        self.file = open(fpath, "w") if fpath else None  # noqa: SIM115

    def __del__(self):
        self.close()

    def write(self, message):
        self.console.write(message)
        if self.file is not None:
            self.file.write(message)

    def flush(self):
        self.console.flush()

    def close(self):
        self.console.close()
        if self.file is not None:
            self.file.close()


def test_logger_that_closes_the_console(monkeypatch, tmp_path):
    monkeypatch.setattr("dassl.utils.logger.Logger", ClosingLogger)
    assert patches.logger_that_closes_the_console() is True
    assert patches.logger_that_closes_the_console() is False
    assert not sys.stdout.closed
    caller = io.StringIO()
    with contextlib.redirect_stdout(caller):
        sys.stdout = ClosingLogger(tmp_path / "log.txt")
        print("training")
        sys.stdout.close()
        print("still open")
        sys.stdout = caller  # the logger is garbage-collected
        gc.collect()
        print("afterwards")
    assert caller.getvalue() == "training\nstill open\nafterwards\n"
    assert (tmp_path / "log.txt").read_text() == "training\n"


def test_logger_in_use_keeps_the_console_open(tmp_path):
    caller = io.StringIO()
    with contextlib.redirect_stdout(caller):
        setup_logger(str(tmp_path))
        print("training")
    gc.collect()
    assert caller.getvalue() == "training\n"


def test_a_dassl_without_the_warmup_class_is_left_unchanged(monkeypatch):
    monkeypatch.setattr("dassl.optim.lr_scheduler", types.ModuleType("lr_scheduler"))
    assert patches.warmup_scheduler() is False
