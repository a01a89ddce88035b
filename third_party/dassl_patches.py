"""Mends of what breaks in upstream Dassl (c61a1b5) on today's torch; each does nothing where nothing is broken."""

import inspect
import logging
import os

import torch


def apply_patches() -> list[str]:
    """Apply all; returns the names of those that had something to mend."""
    return [patch.__name__ for patch in PATCHES if patch()]


def warmup_scheduler() -> bool:
    """Its base class passes `verbose`, which torch >= 2.7 does not take, and a checkpoint holds its successor as a live
    object: unreadable under weights_only, and after a resume bound to a copy of the optimiser: the rate freezes.
    """
    from dassl.optim import lr_scheduler

    base = lr_scheduler._BaseWarmupScheduler
    if "verbose" not in inspect.signature(base.__init__).parameters:
        return False

    def __init__(self, optimizer, successor, warmup_epoch, last_epoch=-1, verbose=False):
        self.successor = successor
        self.warmup_epoch = warmup_epoch
        super(base, self).__init__(optimizer, last_epoch)

    def state_dict(self):
        state = {key: value for key, value in self.__dict__.items() if key not in ("optimizer", "successor")}
        return {**state, "successor": self.successor.state_dict()}

    def load_state_dict(self, state):
        state = dict(state)
        self.successor.load_state_dict(state.pop("successor"))
        self.__dict__.update(state)

    base.__init__, base.state_dict, base.load_state_dict = __init__, state_dict, load_state_dict
    return True


def checkpoint_files() -> bool:
    """Checkpoints are read without running code in them and written whole or not at all."""
    import dassl.engine.trainer
    import dassl.utils
    from dassl.utils import torchtools

    if "weights_only" in inspect.getsource(torchtools.load_checkpoint):
        return False
    save = torchtools.save_checkpoint

    def load_checkpoint(fpath):
        if not fpath or not os.path.exists(fpath):
            raise FileNotFoundError(f"File is not found at {fpath}")
        return torch.load(fpath, map_location=None if torch.cuda.is_available() else "cpu", weights_only=True)

    def save_checkpoint(state, save_dir, is_best=False, remove_module_from_keys=True, model_name=""):
        with _whole_files(torchtools.torch):
            save(state, save_dir, is_best, remove_module_from_keys, model_name)

    for module in (torchtools, dassl.utils, dassl.engine.trainer):
        for function in (load_checkpoint, save_checkpoint):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)
    return True


def silenced_logging() -> bool:
    """Importing upstream's engine disables logging of the whole process."""
    if logging.root.manager.disable == logging.NOTSET:
        return False
    logging.disable(logging.NOTSET)
    return True


def load_model_without_validation_result() -> bool:
    """`load_model` formats the validation result of a checkpoint, which is None in those of the last epoch."""
    from dassl.engine.trainer import TrainerBase

    if ":.1f" not in inspect.getsource(TrainerBase.load_model) or _handles_none(TrainerBase.load_model):
        return False

    def load_model(self, directory, epoch=None):
        from dassl.engine import trainer

        if not directory:
            print("Note that load_model() is skipped as no pretrained model is given")
            return
        for name in self.get_model_names():
            path = os.path.join(directory, name, f"model.pth.tar-{epoch}" if epoch else "model-best.pth.tar")
            if not os.path.exists(path):
                raise FileNotFoundError(f"No model at {path}")
            checkpoint = trainer.load_checkpoint(path)
            print(f"Load {path} to {name} (epoch={checkpoint['epoch']}, val_result={checkpoint.get('val_result')})")
            self._models[name].load_state_dict(checkpoint["state_dict"])

    TrainerBase.load_model = load_model
    return True


PATCHES = (warmup_scheduler, checkpoint_files, silenced_logging, load_model_without_validation_result)


def _handles_none(function) -> bool:
    return "is None" in inspect.getsource(function)


class _whole_files:
    """While active, `torch.save(state, path)` in a module goes through a temporary name."""

    def __init__(self, module):
        self.module = module

    def __enter__(self):
        self.save = self.module.save

        def save(state, path, *arguments, **options):
            temporary = f"{path}.{os.getpid()}.partial"
            try:
                self.save(state, temporary, *arguments, **options)
                os.replace(temporary, path)
            finally:
                if os.path.exists(temporary):
                    os.unlink(temporary)

        self.module.save = save

    def __exit__(self, *error):
        self.module.save = self.save
