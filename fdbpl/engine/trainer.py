"""Base class of all trainers: building, training, checkpoints and tests of a prompt learner under Dassl."""

import math
import random
import secrets
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from dassl.data import DataManager
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.distributed import (
    average_gradients,
    barrier,
    broadcast_from_main,
    is_main_process,
    main_process_first,
    world_size,
)
from fdbpl.errors import UserError
from fdbpl.prompts import POSITIONS, PromptLearner
from fdbpl.runs.progress import progress_bar

from . import checkpoint
from .bank_spec import BankSpec
from .batch import TrainBatch
from .checks import assert_no_test_leakage
from .collapse import EpochMean, find_collapse
from .feature_cache import iterate_features
from .gradients import clip_gradients, gradient_norms, non_finite, non_finite_tensors
from .image_dataset import dataset_wrapper
from .predictions import write_predictions
from .run_compatibility import check_resumed_run, check_tested_run
from .run_inputs import tested_split
from .settings import check_method, check_settings, require, warn_about_warmup
from .student import Classifier, Student, load_student_backbone
from .supervision.base import Loader, Supervision
from .supervision.hard_labels import HardLabels
from .templates import template_of
from .timer import TrainingTimer

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
INITIAL_LOSS_SCALE = 2.0**12
SAVE_INTERVAL_S = 10  # an interruption loses at most this much training, besides the current epoch
TIMER_INTERVAL_S = 1.0  # between two records of the time, so that short epochs do not wait for the disk


class PromptTrainer(TrainerX):
    """Trains the parameters of a student with the losses of a supervision.

    A method defines `student_class` and, for a supervision other than labels, `supervision_class`. An overflow of
    scaled float16 gradients skips a step of all modules and halves the loss scale, which checkpoints keep. Between the
    checkpoints of TRAIN.CHECKPOINT_FREQ there is one of the last finished epoch; the next one replaces it.

    Attributes:
        student_class: the model.
        supervision_class: the source of supervision; by default few-shot labels.
        cfg_key: `cfg.TRAINER.<cfg_key>` holds the student's settings; by default the student class's key.
        student: the model; `train_student` shares its parameters and may have other classes (KDPL-CA).
        supervision: built when training starts.
        results: metrics of the last test at full precision: accuracy, error_rate, macro_f1 in percent.
        trainable_parameters: number of trained values.
        skipped_steps: steps of the whole training that were skipped because scaled gradients overflowed.
        collapsed: True if the training ended in a classifier that cannot tell classes apart.
    """

    student_class: type[Student]
    supervision_class: type[Supervision] = HardLabels
    cfg_key = ""
    student: Student
    train_student: Student
    supervision: Supervision
    scaler: torch.amp.GradScaler
    train_loader_x: Loader  # Dassl's name

    def __init__(self, cfg: CfgNode):
        self.results: dict[str, float] = {}
        self.trainable_parameters = 0
        self.skipped_steps = 0
        self.collapsed = False
        self.timer = TrainingTimer()
        self.timer.start("total")
        self.timer.start("build")
        self.epoch_means: list[EpochMean] = []
        self._summaries: list[dict[str, float]] = []  # results of the steps of the current epoch
        self._accuracy: Tensor | None = None  # of the current batch, in percent, if it has labels
        self._skipped_before = 0  # steps skipped before this epoch
        self._saved = math.inf  # time of the last numbered checkpoint
        self._test_seconds: float | None = None
        self._open = ExitStack()  # the progress bar
        self._count_step: Callable[[], object] = lambda: None
        super().__init__(cfg)
        self.timer.stop("build")

    @property
    def steps(self) -> int:
        """Steps of all attempts of this training."""
        return self.timer.steps

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of all attempts so far: "build", "prepare", "train", "total", "step" (mean of a step); and of the
        last test only: "test"."""
        seconds = self.timer.seconds()
        if "train" in seconds:
            seconds["step"] = seconds["train"] / max(self.steps, 1)
        return seconds if self._test_seconds is None else {**seconds, "test": self._test_seconds}

    # Building ---------------------------------------------------------------------------------------------------

    @classmethod
    def settings_key(cls) -> str:
        """Key of the student's settings: TRAINER.<cfg_key>."""
        return f"TRAINER.{cls.cfg_key or cls.student_class.cfg_key}"

    @classmethod
    def settings(cls, cfg: CfgNode) -> CfgNode:
        """The student's section of the configuration."""
        return cfg.TRAINER[cls.cfg_key or cls.student_class.cfg_key]

    @classmethod
    def bank_spec(cls, cfg: CfgNode, dataset) -> BankSpec | None:
        """Region bank that a training of `cfg` reads; None if it reads no bank."""
        return cls.supervision_class.bank_spec(cfg, dataset, cls.student_class)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Raise a UserError for settings that cannot work, before data or weights are loaded."""
        settings, name = self.settings(cfg), self.settings_key()
        require(settings.PREC in PRECISIONS, f"{name}.PREC", f"one of {', '.join(PRECISIONS)}", settings.PREC)
        if settings.PREC in ("fp16", "amp") and not (torch.cuda.is_available() and cfg.USE_CUDA):
            raise UserError(f"{name}.PREC {settings.PREC} needs a GPU, and none is used; set {name}.PREC fp32 or bf16")
        position = settings.get("CLASS_TOKEN_POSITION", POSITIONS[0])
        require(position in POSITIONS, f"{name}.CLASS_TOKEN_POSITION", f"one of {', '.join(POSITIONS)}", position)
        check_method(settings, name)
        check_settings(cfg)
        self.supervision_class.check_cfg(cfg)

    def build_data_loader(self) -> None:
        try:
            with main_process_first():  # few-shot lists and the demo's images are written once
                self.dm = DataManager(self.cfg, dataset_wrapper=dataset_wrapper(self.cfg))
        except (ValueError, AssertionError) as error:  # Dassl's
            raise UserError(f"The data cannot be loaded with these DATASET, DATALOADER and INPUT: {error}") from error
        self.train_loader_x, self.train_loader_u = self.dm.train_loader_x, self.dm.train_loader_u
        self.val_loader, self.test_loader = self.dm.val_loader, self.dm.test_loader
        self.num_classes, self.lab2cname = self.dm.num_classes, self.dm.lab2cname
        self.num_source_domains = self.dm.num_source_domains

    def build_model(self) -> None:
        settings, name = self.settings(self.cfg), self.cfg.MODEL.BACKBONE.NAME
        print(f"Loading CLIP (backbone: {name})")
        backbone = load_student_backbone(name, str(self.device), settings.PREC)
        if tuple(self.cfg.INPUT.SIZE) != (backbone.image_size,) * 2:
            raise UserError(
                f"The backbone {name} needs INPUT.SIZE ({backbone.image_size}, {backbone.image_size}), not "
                f"{tuple(self.cfg.INPUT.SIZE)}"
            )
        seed_epoch(self.cfg.SEED, 0)  # a random context depends on the seed only
        self.student = self.build_student(backbone, self.dm.dataset.classnames).to(self.device)
        self.student.text_chunk = self.cfg.MODEL.TEXT_CHUNK
        self.model = self.student  # Dassl's name
        self.train_student = self.student
        for name, module in self.trainable_modules().items():
            module.to(self.device)
            self.register_model(name, module, *self._build_optimizer(module))
        self.scale_losses(settings.PREC in ("fp16", "amp"))
        self._print_parameters(backbone.model)

    def scale_losses(self, enabled: bool) -> None:
        """Create the loss scaler, which float16 gradients need; without it a gradient that overflows is an error."""
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=INITIAL_LOSS_SCALE, enabled=enabled)

    def build_student(self, backbone: Backbone, classnames: list[str]) -> Student:
        """Build the student on the backbone's device."""
        template = self.choose_template(self.cfg, template_of(self.cfg, self.dm.dataset))
        dataset, supervision = self.dm.dataset, self.supervision_class
        return self.new_student(
            self.cfg, backbone, classnames, template,
            lambda: supervision.load_class_features(self.cfg, dataset, self.device),
        )  # fmt: skip

    @classmethod
    def new_student(
        cls, cfg: CfgNode, backbone: Backbone, classnames: list[str], template: str,
        teacher_features: Callable[[], Tensor],
    ) -> Student:  # fmt: skip
        """An untrained student; no data set is needed.

        Args:
            teacher_features: loads the teacher's unit class features, for students that use them (PromptKD).
        """
        return cls.student_class(cls.settings(cfg), backbone, classnames, template)

    @classmethod
    def new_negative_prompts(cls, cfg: CfgNode, backbone: Backbone, classnames: list[str]) -> PromptLearner | None:
        """An untrained negative prompt space; None for trainers other than FDBPL's."""
        return None

    @classmethod
    def choose_template(cls, cfg: CfgNode, template: str) -> str:
        """Prompt template of the method, given the data set's."""
        return template

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Modules to train and to save, by the names of their checkpoint folders."""
        return self.student.trainable_modules()

    def _build_optimizer(self, module: nn.Module) -> tuple:
        """Dassl's optimizer and learning-rate schedule."""
        try:
            optimizer = build_optimizer(module, self.cfg.OPTIM)
            for group in optimizer.param_groups:
                if "eps" in group:  # Dassl has no key for it
                    group["eps"] = self.cfg.OPTIM.ADAM_EPS
            return optimizer, build_lr_scheduler(optimizer, self.cfg.OPTIM)
        except ValueError as error:
            raise UserError(f"The optimizer cannot be built from the OPTIM settings: {error}") from error

    def _print_parameters(self, frozen: nn.Module) -> None:
        trained = {f"{name}.{key}": value for name, module in self.trainable_modules().items()
                   for key, value in module.named_parameters() if value.requires_grad}  # fmt: skip
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in trained.items()) or "nothing"
        self.trainable_parameters = sum(value.numel() for value in trained.values())
        total = sum(value.numel() for value in frozen.parameters())
        print(f"Trainable: {shapes}: {self.trainable_parameters:,} parameters; frozen: {total:,}")

    # Training ---------------------------------------------------------------------------------------------------

    def train(self) -> None:
        if self._models:
            assert_no_test_leakage(self.cfg, self.dm.dataset)
            with self._open:  # closes the progress bar before an error is printed
                super().train()
        else:
            print(f"{type(self).__name__} has no trainable parameters: testing it")
            self.test()

    def build_supervision(self) -> None:
        """Build the supervision and its loader; called once, when training starts."""
        self.supervision = self.supervision_class(self.cfg, self.dm.dataset, self.student, self.device)
        self.train_loader_x = self.supervision.train_loader(self.train_loader_x)
        self.train_student = self.supervision.train_student
        self.train_student.on_train_start()

    def before_train(self) -> None:
        self.timer.start("prepare")
        warn_about_warmup(self.cfg.OPTIM)
        self.build_supervision()
        self._saved = time.monotonic()
        super().before_train()
        steps = len(self.train_loader_x)
        bar = progress_bar(self.max_epoch * steps, self.start_epoch * steps, "Training", "step", not is_main_process())
        self._count_step = self._open.enter_context(bar)
        self.timer.stop("prepare")
        self.timer.start("train")

    def before_epoch(self) -> None:
        """Seed the epoch: the order of the images and their crops depend on seed and epoch only."""
        seed_epoch(self.cfg.SEED, self.epoch + 1)
        self.supervision.set_epoch(self.epoch)
        self._summaries = []
        self._skipped_before = self.skipped_steps
        super().before_epoch()

    def parse_batch_train(self, batch: dict) -> TrainBatch:
        return self.supervision.read(batch)

    def compute_losses(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Weighted losses of a batch by name, scalars in float32; their sum is minimised."""
        output = self.train_student.outputs(batch, self.supervision.classes(batch))
        if batch.labels is not None:
            self._accuracy = compute_accuracy(output.logits.detach(), batch.labels)[0]
        return {**self.supervision.losses(output, batch), **self.train_student.regularization_losses(batch, output)}

    def compute_gradients(self, losses: dict[str, Tensor]) -> None:
        """Compute the gradients of all trained parameters, times the loss scale."""
        self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Take one step, or none if the scaled gradients overflow. The host waits for the device only once."""
        self._accuracy = None
        losses = self.compute_losses(self.parse_batch_train(batch))
        loss = torch.stack(list(losses.values())).sum()
        self.model_zero_grad()
        self.compute_gradients(losses)
        average_gradients(self._parameters())
        for optimizer in self._optims.values():
            self.scaler.unscale_(optimizer)
        norms = gradient_norms(self._models)
        if self.cfg.OPTIM.CLIP_GRAD_NORM:
            clip_gradients(self._parameters(), norms.values(), self.cfg.OPTIM.CLIP_GRAD_NORM)
        accuracy = [] if self._accuracy is None else [self._accuracy.reshape(())]
        values = [loss, *losses.values(), *norms.values(), *accuracy]
        loss_value, *rest = torch.stack([value.detach() for value in values]).tolist()
        summary = {"loss": loss_value, **dict(zip(losses, rest, strict=False))}
        if self._overflows(summary, dict(zip(norms, rest[len(losses) :], strict=False))):
            self.skipped_steps += 1
        else:
            self.model_update()  # `scaler.step` would decide for each optimizer separately and wait for the device
        self.scaler.update()
        if len(losses) == 1:
            summary = {"loss": loss_value}
        if accuracy:
            summary["acc"] = rest[-1]
        self._summaries.append(summary)
        self._count_step()
        self.timer.steps += 1
        return summary

    def _parameters(self) -> list[nn.Parameter]:
        return [value for module in self._models.values() for value in module.parameters()]

    def _overflows(self, losses: dict[str, float], norms: dict[str, float]) -> bool:
        """Tell whether a gradient is not finite and a smaller loss scale may help.

        Raises:
            UserError: a loss is not finite, or an unscaled gradient.
        """
        if non_finite(losses):
            tensors = [f"{name} contains NaN or Inf" for name in non_finite_tensors(self._models)]
            found = [f"{name} = {losses[name]}" for name in non_finite(losses)]
            raise self._divergence(tensors + (found[1:] or found))  # the sum only if each single loss is finite
        gradients = [f"the gradient of {name} is {norms[name]}" for name in non_finite(norms)]
        if gradients and self.scaler.get_scale() <= 1:
            raise self._divergence(gradients)
        return bool(gradients)

    def _divergence(self, found: list[str]) -> UserError:
        saved = max(checkpoint.epochs(Path(self.output_dir) / self.get_model_names()[0]), default=None)
        return UserError(
            f"The training diverged at epoch {self.epoch + 1} batch {self.batch_idx + 1}: {', '.join(found)}. Lower "
            "OPTIM.LR, set OPTIM.CLIP_GRAD_NORM 1.0 or use PREC fp32 "
            f"({'there is no checkpoint yet' if saved is None else f'the checkpoint of epoch {saved} is kept'})"
        )

    def after_epoch(self) -> None:
        self.epoch_means.append(EpochMean.of(self._summaries))
        found = non_finite_tensors(self._models)  # from the last step, whose loss was finite
        if found:
            raise self._divergence([f"{name} contains NaN or Inf" for name in found])
        self._report_skipped_steps()
        self.update_lr()  # before the checkpoint, which keeps the rate of the next epoch
        super().after_epoch()
        if broadcast_from_main(int(time.monotonic() - self._saved >= SAVE_INTERVAL_S)):
            self.save_model(self.epoch, self.output_dir)
        elif is_main_process():
            self.timer.write(Path(self.output_dir), TIMER_INTERVAL_S)

    def _report_skipped_steps(self) -> None:
        skipped, steps = self.skipped_steps - self._skipped_before, self.num_batches
        if skipped == steps:
            raise UserError(
                f"No training step was taken in epoch {self.epoch + 1}: the float16 gradients of all {steps} batches "
                "overflowed. Use PREC bf16 or fp32, lower the loss weights, or train with more batches per epoch"
            )
        if skipped:
            print(
                f"Epoch {self.epoch + 1}: {skipped} of {steps} steps were skipped because float16 gradients "
                f"overflowed; the loss scale is now {self.scaler.get_scale():g}"
            )

    def after_train(self) -> None:
        self._open.close()
        self.timer.stop("train")
        self._warn_about_collapse()
        super().after_train()

    @torch.no_grad()
    def _warn_about_collapse(self) -> None:
        student, epochs = self.student, self.epoch_means
        features = None if student.text_follows_image else student.text_features()[0]
        found = find_collapse(
            epochs if len(epochs) == self.max_epoch else [],  # checkpoints of older versions lack them
            len(student.classnames), features, student.backbone.logit_scale,
        )  # fmt: skip
        self.collapsed = bool(found)
        if found:
            print(
                f"Warning: the training collapsed: {found}. The learning rate is the likely cause: train again with a "
                f"lower OPTIM.LR (it is {self.cfg.OPTIM.LR:g}) or a lower OPTIM.CLIP_GRAD_NORM"
            )

    # Checkpoints ------------------------------------------------------------------------------------------------

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Write Dassl's checkpoint files atomically; they contain tensors and plain values only."""
        if is_main_process():
            for name in self.get_model_names():
                content = self._checkpoint_of(name, epoch, val_result)
                file_name = model_name or f"model.pth.tar-{epoch + 1}"
                path = checkpoint.write(Path(directory) / name, file_name, content)
                if is_best and file_name != checkpoint.BEST:
                    checkpoint.write(path.parent, checkpoint.BEST, content)
                print(f"Checkpoint saved to {path}")
        if not model_name:
            self._saved = time.monotonic()
            if is_main_process():
                self.timer.write(Path(directory))
                for name in self.get_model_names():
                    checkpoint.remove_older(Path(directory) / name, epoch, self.cfg.TRAIN.CHECKPOINT_FREQ)
        barrier()

    def _checkpoint_of(self, name: str, epoch: int, val_result: float | None) -> dict:
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
        return {**content, "extra": extra} if extra else content

    def extra_state(self) -> dict[str, Tensor]:
        """Further tensors that a resumed training needs."""
        return {}

    def restore_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `extra_state` returned."""

    def load_model(self, directory, epoch=None):
        """Load the trained parameters of all modules for a test.

        Args:
            directory: run folder.
            epoch: epoch of the checkpoints; None = the best model if there is one, else the last epoch.

        Raises:
            UserError: a checkpoint is missing, broken, or of another method, CLIP or input.
        """
        if not directory:
            if self._models:
                raise UserError(f"--model-dir is missing; give the folder of a run of {self.cfg.TRAINER.NAME}")
            return
        check_tested_run(directory, self.cfg, self.settings_key(), self.student)
        paths = {name: checkpoint.find_checkpoint(Path(directory) / name, epoch) for name in self._models}
        contents = {name: checkpoint.read(path) for name, path in paths.items()}
        ignored = self.student.ignored_keys
        states = {name: checkpoint.match_keys(self._models[name], content["state_dict"], paths[name], ignored)
                  for name, content in contents.items()}  # fmt: skip
        for name, state in states.items():  # all of them fit
            self._models[name].load_state_dict(state)
            print(f'Loaded {name} from "{paths[name]}" (epoch = {contents[name].get("epoch")})')

    def resume_model_if_exist(self, directory):
        """Resume from the last epoch with a readable checkpoint of every module; returns the number of finished epochs.

        The run's own checkpoints take precedence over those of the run that RESUME names. The learning rate is replayed
        step by step, so it does not depend on what a scheduler stores.

        Args:
            directory: run folder: the one that RESUME names, else the run's own.

        Raises:
            UserError: RESUME names a run with other settings or data, without checkpoints, or with nothing left to
                train.
        """
        own, origin = Path(self.output_dir), Path(directory) if self.cfg.RESUME else None
        if origin is None or origin.resolve() == own.resolve():
            self.timer.add_earlier(Path(directory))
            epoch = self._resume_from(Path(directory))
        else:
            check_resumed_run(origin, self.cfg, getattr(self.dm.dataset, "digests", {}), self.student)
            finished = max(checkpoint.common_epochs(origin, self._models), default=0)
            if finished >= self.max_epoch:
                raise UserError(
                    f"The run in {origin} has trained for {finished} epochs, and OPTIM.MAX_EPOCH is {self.max_epoch}: "
                    "nothing is left to train; set a larger OPTIM.MAX_EPOCH, or test that run with "
                    f"--eval-only --model-dir {origin}"
                )
            self.timer.add_earlier(own, origin)
            epoch = self._resume_from(own) or self._resume_from(origin)
        if not epoch and self.cfg.RESUME:
            raise UserError(f"--resume {self.cfg.RESUME} has no checkpoints of {', '.join(self._models)}")
        if not epoch:
            print("No checkpoint found, train from scratch")
        return epoch

    def _resume_from(self, directory: Path) -> int:
        """Restore the last readable epoch of a run folder and return it; 0 if there is none."""
        for epoch in sorted(checkpoint.common_epochs(directory, self._models), reverse=True):
            paths = {name: directory / name / f"model.pth.tar-{epoch}" for name in self._models}
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
            self._restore_best(directory)
            print(f"Resuming from epoch {epoch} in {directory}")
            return epoch
        return 0

    def _restore_best(self, directory: Path) -> None:
        """Restore the best validation result so far, if all modules have it, and copy its files to this run."""
        paths = {name: directory / name / checkpoint.BEST for name in self._models}
        if self.cfg.TEST.FINAL_MODEL != "best_val" or not all(path.is_file() for path in paths.values()):
            return
        contents = {name: checkpoint.read(path) for name, path in paths.items()}
        results = [content["val_result"] for content in contents.values() if content.get("val_result") is not None]
        if len(results) < len(contents):
            return
        self.best_result = min(results)  # they differ if the run was killed between two modules
        for name, content in contents.items():
            own = Path(self.output_dir, name, checkpoint.BEST)
            if is_main_process() and own.resolve() != paths[name].resolve():
                checkpoint.write(own.parent, own.name, content)

    def _replay_learning_rates(self, epochs: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # no optimizer step yet
            for _ in range(epochs):
                self.update_lr()

    # Testing ----------------------------------------------------------------------------------------------------

    def build_classifier(self) -> Classifier:
        """Return a function from image features [B, D] to logits [B, C]; class features are computed once per test."""
        return self.classifier_of(self.cfg, self.student)

    @classmethod
    def classifier_of(cls, cfg: CfgNode, student: Student, negative: PromptLearner | None = None) -> Classifier:
        """The classifier of a student of `cfg`; `negative` is FDBPL's negative prompt space."""
        return student.build_classifier()

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Return a function from images [B, 3, S, S] to logits [B, C]."""
        return self.student.predictor(self.build_classifier())

    def model_inference(self, images: Tensor) -> Tensor:
        return self.predictor()(images)

    def init_writer(self, log_dir: str) -> None:
        if is_main_process():
            super().init_writer(log_dir)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Dassl's test, with the class features computed once; `results` keeps the metrics at full precision.

        Returns:
            The first metric (accuracy in percent), as Dassl.

        Raises:
            UserError: a logit is NaN or Inf.
        """
        begin = time.perf_counter()
        self.set_model_mode("eval")
        self.evaluator.reset()
        saved = self.cfg.TEST.SAVE_PREDICTIONS and split is None  # the final test, not a validation during training
        split = tested_split(self.cfg, self.dm.dataset, split)
        loader = self.val_loader if split == "val" else self.test_loader
        print(f"Evaluate on the *{split}* set")
        kept: list[Tensor] = []
        classify, finite = self.build_classifier(), torch.ones((), dtype=torch.bool, device=self.device)
        for features, labels in iterate_features(self.cfg, self.student, loader, self.parse_batch_test):
            logits = classify(features)
            finite &= logits.isfinite().all()
            self.evaluator.process(logits, labels)
            if saved:
                kept.append(logits.float().cpu())
        if not finite:  # an accuracy of them would look like a result
            raise UserError(
                f"The logits on the {split} set contain NaN or Inf; train with a lower OPTIM.LR or in PREC fp32, or "
                "load another checkpoint"
            )
        if saved and is_main_process():
            dataset, file = self.dm.dataset, Path(self.output_dir, "predictions.csv")
            root = getattr(dataset, "root", self.cfg.DATASET.ROOT)  # data sets of other code have none
            write_predictions(file, loader.dataset.data_source, root, dataset.classnames, torch.cat(kept))
        with main_process_first():  # TEST.COMPUTE_CMAT writes a file
            results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        self.results = {name: float(value) for name, value in results.items() if isinstance(value, (int, float))}
        self._test_seconds = time.perf_counter() - begin
        return next(iter(results.values()))


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed the generators of Python, numpy and torch from (seed, epoch).

    A negative seed leaves them random; with several processes the first one draws a seed for all, since they must read
    the same batches. Dassl's loader draws its order and its workers' seeds from torch's generator at an epoch's start.
    """
    if seed < 0 and world_size() == 1:
        return
    if seed < 0:
        seed = broadcast_from_main(secrets.randbits(63))
    python, numpy, torch_seed = np.random.SeedSequence([seed, epoch]).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)
