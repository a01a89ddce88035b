"""What a training leaves on disk, and how it is taken up again: whole, or with a sentence that says why not."""

import math
import time
import warnings
from pathlib import Path

import torch
from dassl.engine import TrainerX
from torch import Tensor

from fdbpl.distributed import barrier, broadcast_from_main, is_main_process
from fdbpl.errors import UserError

from . import checkpoint
from .attempts import Attempts
from .collapse import EpochMean
from .run_compatibility import check_resumed_run, check_tested_run

LOST_AT_MOST = 10  # seconds of training that an interruption costs, beside the epoch under way
WRITTEN_EVERY = 1.0  # seconds between two records of the times, so that short epochs do not wait for the disk


class CheckpointedTrainer(TrainerX):
    """Dassl's checkpoints of every registered module; what `self.student.ignored_keys` names is not loaded.

    Between those of TRAIN.CHECKPOINT_FREQ there is one of the last epoch that ended; the next one takes its place.
    """

    attempts: Attempts
    scaler: torch.amp.GradScaler
    epoch_means: list[EpochMean]
    skipped_steps = 0  # of the whole training, because scaled gradients overflowed
    _saved = math.inf  # when the last numbered one was written

    def before_train(self) -> None:
        self._saved = time.monotonic()
        super().before_train()

    def after_epoch(self) -> None:
        super().after_epoch()
        if broadcast_from_main(int(time.monotonic() - self._saved >= LOST_AT_MOST)):
            self.save_model(self.epoch, self.output_dir)
        elif is_main_process():
            self.attempts.write(Path(self.output_dir), WRITTEN_EVERY)

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Dassl's files, each written whole or not at all, holding tensors and plain values only."""
        if is_main_process():
            self._write_checkpoints(epoch, directory, is_best, val_result, model_name)
        if not model_name:
            self._saved = time.monotonic()
            if is_main_process():
                self.attempts.write(Path(directory))
                self._remove_between(epoch, directory)
        barrier()

    def _remove_between(self, epoch: int, directory: str) -> None:
        """Delete checkpoints of earlier epochs that the configuration does not ask for."""
        frequency = self.cfg.TRAIN.CHECKPOINT_FREQ
        for name in self.get_model_names():
            for earlier in checkpoint.epochs(Path(directory) / name):
                if earlier <= epoch and (frequency == 0 or earlier % frequency):
                    (Path(directory) / name / f"model.pth.tar-{earlier}").unlink()

    def _write_checkpoints(self, epoch, directory, is_best, val_result, model_name) -> None:
        for name in self.get_model_names():
            content = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": self._optims[name].state_dict(),
                "scheduler": self._scheds[name].state_dict(),
                "val_result": None if val_result is None else float(val_result),
                "epoch_means": [tuple(mean) for mean in self.epoch_means],
            }
            if self.scaler.is_enabled():
                content.update(scaler=self.scaler.state_dict(), skipped_steps=self.skipped_steps)
            extra = self.extra_state()
            content.update({"extra": extra} if extra else {})
            file_name = model_name or f"model.pth.tar-{epoch + 1}"
            path = checkpoint.write(Path(directory) / name, file_name, content)
            if is_best and file_name != checkpoint.BEST:
                checkpoint.write(path.parent, checkpoint.BEST, content)
            print(f"Checkpoint saved to {path}")

    def extra_state(self) -> dict[str, Tensor]:
        """What else a resumed training needs."""
        return {}

    def restore_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take up what `extra_state` gave."""

    def load_model(self, directory, epoch=None):
        """Load what was learnt for testing: every module, whole, or a sentence.

        Args:
            directory: run folder. epoch: which checkpoint; None = the best one if there is one, else the last.
        """
        if not directory:
            if self._models:
                method = type(self).__name__
                raise UserError(f"expected --model-dir with the weights of {method}, found none; name a run")
            return
        check_tested_run(directory, self.cfg, self.settings_key(), self.student)
        paths = {name: checkpoint.choose(Path(directory) / name, epoch) for name in self._models}
        contents = {name: checkpoint.read(path) for name, path in paths.items()}
        ignored = self.student.ignored_keys
        states = {name: checkpoint.fitting(self._models[name], content["state_dict"], paths[name], ignored)
                  for name, content in contents.items()}  # fmt: skip
        for name, state in states.items():  # all fit
            self._models[name].load_state_dict(state)
            print(f'Loaded {name} from "{paths[name]}" (epoch = {contents[name].get("epoch")})')

    def resume_model_if_exist(self, directory):
        """Continue from the last epoch that all modules have a readable checkpoint of; returns the epochs done.

        The run's own checkpoints come before those of the run that RESUME names. The learning rate is replayed step by
        step, so it does not depend on what a scheduler stores.

        Args:
            directory: a run folder: the one that RESUME names, else the run's own.

        Raises:
            UserError: RESUME names a run of other settings or data, one without checkpoints, or one that has trained
                for all of this run's epochs.
        """
        own, origin = Path(self.output_dir), Path(directory) if self.cfg.RESUME else None
        if origin is None or origin.resolve() == own.resolve():
            self.attempts.add_earlier(Path(directory))
            epoch = self._resume_from(Path(directory))
        else:
            check_resumed_run(origin, self.cfg, getattr(self.dm.dataset, "digests", {}), self.student)
            self._refuse_trained(origin)
            self.attempts.add_earlier(own, origin)
            epoch = self._resume_from(own) or self._resume_from(origin)
        if not epoch and self.cfg.RESUME:
            raise UserError(
                f"expected checkpoints of {', '.join(self._models)} in {self.cfg.RESUME} to resume from, found none; "
                "check --resume"
            )
        if not epoch:
            print("No checkpoint found, train from scratch")
        return epoch

    def _resume_from(self, directory: Path) -> int:
        """Restore the last epoch that all modules have a readable checkpoint of; 0 where there is none."""
        folders = {name: directory / name for name in self._models}
        for epoch in sorted(self._common_epochs(directory), reverse=True):
            paths = {name: folder / f"model.pth.tar-{epoch}" for name, folder in folders.items()}
            try:
                contents = {name: checkpoint.read(path) for name, path in paths.items()}
            except UserError as error:
                print(f"Skipping epoch {epoch}: {error}")
                continue
            self._replay_learning_rates(epoch)
            for name, content in contents.items():
                checkpoint.restore(self._models[name], content["state_dict"], paths[name])
                checkpoint.restore_optimiser(self._optims[name], content, paths[name])
                self.restore_extra_state(content.get("extra", {}))
                self.epoch_means = [EpochMean(*mean) for mean in content.get("epoch_means", [])]
                if "scaler" in content:
                    self.scaler.load_state_dict(content["scaler"])
                    self.skipped_steps = content["skipped_steps"]
            self._take_up_best(folders)
            print(f"Resuming from epoch {epoch} in {directory}")
            return epoch
        return 0

    def _refuse_trained(self, origin: Path) -> None:
        """Refuse to resume a run that leaves nothing to train: no checkpoint would be written here."""
        epochs = max(self._common_epochs(origin), default=0)
        if epochs >= self.max_epoch:
            raise UserError(
                f"The run in {origin} has trained for {epochs} epochs, and OPTIM.MAX_EPOCH is {self.max_epoch}: "
                "nothing is left to train; set a larger OPTIM.MAX_EPOCH, or test that run with "
                f"--eval-only --model-dir {origin}"
            )

    def _common_epochs(self, directory: Path) -> set[int]:
        """Epochs that every learner has a checkpoint of in a run folder."""
        return set.intersection(*(set(checkpoint.epochs(directory / name)) for name in self._models))

    def _take_up_best(self, folders: dict[str, Path]) -> None:
        """The best validation result so far, where all modules have it; its files go where this run will look."""
        paths = {name: folder / checkpoint.BEST for name, folder in folders.items()}
        if self.cfg.TEST.FINAL_MODEL != "best_val" or not all(path.is_file() for path in paths.values()):
            return
        contents = {name: checkpoint.read(path) for name, path in paths.items()}
        results = [content.get("val_result") for content in contents.values()]
        if None in results:
            return
        self.best_result = min(results)  # a kill between two modules leaves the better one alone: it is written again
        for name, content in contents.items():
            own = Path(self.output_dir, name, checkpoint.BEST)
            if is_main_process() and own.resolve() != paths[name].resolve():
                checkpoint.write(own.parent, own.name, content)

    def _replay_learning_rates(self, epochs: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # no step to wait for
            for _ in range(epochs):
                self.update_lr()
