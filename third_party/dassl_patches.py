"""Compatibility patches for upstream Dassl (c61a1b5) on current torch.

A patch is applied if the code in use fails a probe, or is neither ours (third_party/standin) nor patched already.
"""

import contextlib
import io
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from fdbpl.io.atomic import write_bytes, write_text
from fdbpl.io.tensor_files import check_archive

STANDIN = Path(__file__).resolve().parent / "standin"


def apply_patches() -> list[str]:
    """Apply all patches; return the names of those that were needed."""
    return [patch.__name__ for patch in PATCHES if patch()]


def _is_ours(function: Callable) -> bool:
    """Tell whether `function` is the stand-in's, or a patch of this file."""
    file = Path(function.__code__.co_filename).resolve()
    return file == Path(__file__).resolve() or STANDIN in file.parents


def warmup_scheduler() -> bool:
    """Fix the warm-up schedulers.

    Upstream passes `verbose` to torch's constructor, which torch >= 2.7 rejects. Its checkpoints hold the next
    scheduler as an object: `weights_only` cannot read it, and after a resume it changes a copy of the optimiser, so
    that the learning rate stays constant.
    """
    from dassl.optim import lr_scheduler

    base = getattr(lr_scheduler, "_BaseWarmupScheduler", None)
    if base is None or _is_ours(base.state_dict):
        return False

    def __init__(self, optimizer, successor, warmup_epoch, last_epoch=-1, verbose=False):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super(base, self).__init__(optimizer, last_epoch)

    def state_dict(self):
        state = {key: value for key, value in self.__dict__.items() if key not in ("optimizer", "successor")}
        return {**state, "successor": self.successor.state_dict()}

    def load_state_dict(self, state):
        self.successor.load_state_dict(state["successor"])
        self.__dict__.update({key: value for key, value in state.items() if key != "successor"})

    base.__init__, base.state_dict, base.load_state_dict = __init__, state_dict, load_state_dict
    return True


def checkpoint_files() -> bool:
    """Write checkpoints atomically, and read them without executing pickled code."""
    import dassl.engine.trainer
    import dassl.utils
    from dassl.utils import torchtools

    if _is_ours(torchtools.load_checkpoint):
        return False

    def load_checkpoint(fpath):
        if not fpath or not os.path.exists(fpath):
            raise FileNotFoundError(f"there is no checkpoint at {fpath}")
        check_archive(Path(fpath))
        return torch.load(fpath, map_location=None if torch.cuda.is_available() else "cpu", weights_only=True)

    def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
        if remove_module_from_keys:
            weights = state["state_dict"].items()
            state["state_dict"] = OrderedDict((key.removeprefix("module."), value) for key, value in weights)
        name = model_name or f"model.pth.tar-{state['epoch']}"
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(os.path.join(save_dir, name), buffer.getvalue())
        print(f"Checkpoint saved to {os.path.join(save_dir, name)}")
        write_text(os.path.join(save_dir, "checkpoint"), f"{name}\n")
        if is_best:
            write_bytes(os.path.join(save_dir, "model-best.pth.tar"), buffer.getvalue())
            print(f'Best checkpoint saved to "{os.path.join(save_dir, "model-best.pth.tar")}"')

    for module in (torchtools, dassl.utils, dassl.engine.trainer):
        for function in (load_checkpoint, save_checkpoint):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)
    return True


def silenced_logging() -> bool:
    """Enable logging, which the import of upstream's engine disables for the whole process."""
    if logging.root.manager.disable == logging.NOTSET:
        return False
    logging.disable(logging.NOTSET)
    return True


def load_model_without_validation_result() -> bool:
    """Load checkpoints without a validation result, which upstream's `load_model` formats as a number."""
    from dassl.engine import trainer

    if _is_ours(trainer.TrainerBase.load_model):
        return False

    def load_model(self, directory, epoch=None):
        if not directory:
            print("No model folder is given: the weights stay as they are")
            return
        file = "model-best.pth.tar" if epoch is None else f"model.pth.tar-{epoch}"
        for name in self.get_model_names():
            path = os.path.join(directory, name, file)
            checkpoint = trainer.load_checkpoint(path)
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={checkpoint['val_result']})")
            self._models[name].load_state_dict(checkpoint["state_dict"])

    trainer.TrainerBase.load_model = load_model
    return True


def logger_that_closes_the_console() -> bool:
    """Keep stdout open when a `Logger` is closed or garbage-collected; upstream closes the stream that it copies to."""
    from dassl.utils import logger

    class Console(io.StringIO):
        closed_by_logger = False

        def close(self):
            self.closed_by_logger = True

    console = Console()
    with contextlib.redirect_stdout(console):
        logger.Logger().close()
    if not console.closed_by_logger:
        return False

    def close(self):
        if self.file is not None:
            self.file.close()
            self.file = None

    logger.Logger.close = close
    return True


PATCHES = (warmup_scheduler, checkpoint_files, silenced_logging, load_model_without_validation_result,
           logger_that_closes_the_console)  # fmt: skip
