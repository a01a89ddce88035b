"""Base class of all trainers: building, training, checkpoints and tests of a prompt learner under Dassl."""

import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from dassl.data import DataManager
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.distributed import barrier, broadcast_from_main, is_main_process, main_process_first
from fdbpl.errors import UserError
from fdbpl.prompts import POSITIONS
from fdbpl.runs.progress import progress_bar

from . import checkpoint, run_checkpoints
from .batch import TrainBatch
from .checks import assert_no_test_leakage
from .collapse import EpochMean, find_collapse
from .evaluation import check_finite, compute_logits, score
from .gradients import non_finite_tensors
from .image_dataset import dataset_wrapper
from .method import Method
from .optimization import DivergenceError, Optimization
from .predictions import write_predictions
from .run_compatibility import check_resumed_run, check_tested_run
from .run_inputs import tested_split
from .seeding import seed_epoch
from .settings import check_method, check_settings, require, warn_about_warmup
from .student import Classifier, Student, load_student_backbone
from .supervision.base import Loader, Supervision
from .templates import template_of
from .timer import TrainingTimer

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
SAVE_INTERVAL_S = 10  # an interruption loses at most this much training, in addition to the current epoch
TIMER_INTERVAL_S = 1.0  # least interval between two records of the time, so that short epochs do not wait for the disk


class PromptTrainer(Method, TrainerX):
    """Trainer of a student's parameters with the losses of a supervision.

    Between the checkpoints of TRAIN.CHECKPOINT_FREQ there is one of the last finished epoch; the next one replaces it.

    Attributes:
        load_teacher: loads the teacher, once for the student and the supervision together.
        student: the model; `train_student` shares its parameters and may have other classes (KDPL-CA).
        supervision: built when training starts.
        optimization: takes the steps of all trained modules.
        results: metrics of the last test at full precision: those of Dassl's evaluator (accuracy, error_rate and
            macro_f1 in percent) and of `fdbpl.scores`.
        trainable_parameters: number of trained values.
        collapsed: True if the training ended in a classifier that cannot tell classes apart.
    """

    student: Student
    train_student: Student
    supervision: Supervision
    optimization: Optimization
    train_loader_x: Loader  # Dassl's name

    def __init__(self, cfg: CfgNode):
        self.results: dict[str, Any] = {}
        self.trainable_parameters = 0
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
        super().__init__(self.resolve_precisions(cfg))
        self.timer.stop("build")

    @property
    def steps(self) -> int:
        """Steps of all attempts of this training."""
        return self.timer.steps

    @property
    def skipped_steps(self) -> int:
        """Steps of the whole training that were skipped because scaled gradients overflowed."""
        return self.optimization.skipped_steps

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of all attempts so far: "build", "prepare", "train", "total", "step" (mean of a step); and of the
        last test only: "test"."""
        seconds = self.timer.seconds()
        if "train" in seconds:
            seconds["step"] = seconds["train"] / max(self.steps, 1)
        return seconds if self._test_seconds is None else {**seconds, "test": self._test_seconds}

    # Building ---------------------------------------------------------------------------------------------------

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
        if self.matches_relations(cfg):
            student = self.student_class
            reason = "text is fixed" if not student.learns_text else "class features depend on the image"
            if not student.learns_text or student.text_follows_image:
                raise UserError(
                    f"TEACHER.MATCH_RELATIONS cannot be used with {type(self).__name__}, whose {reason}; leave it out"
                )

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
        self.load_teacher = cache(partial(self.supervision_class.load_teacher, self.cfg, self.dm.dataset, self.device))
        seed_epoch(self.cfg.SEED, 0)  # a random context depends on the seed only
        self.student = self.build_student(backbone, self.dm.dataset.classnames).to(self.device)
        self.student.text_chunk = self.cfg.MODEL.TEXT_CHUNK
        self.model = self.student  # Dassl's name
        self.train_student = self.student
        for name, module in self.trainable_modules().items():
            module.to(self.device)
            self.register_model(name, module, *self._build_optimizer(module))
        self.optimization = Optimization(
            self._models, self._optims, self.device, settings.PREC in ("fp16", "amp"), self.cfg.OPTIM.CLIP_GRAD_NORM
        )
        self._print_parameters(backbone.model)

    def build_student(self, backbone: Backbone, classnames: list[str]) -> Student:
        """Build the student on the backbone's device."""
        cfg, dataset = self.cfg, self.dm.dataset
        template = self.choose_template(cfg, template_of(cfg, dataset))
        return self.new_student(cfg, backbone, classnames, template, self.teacher_features)

    def teacher_features(self, classnames: list[str]) -> Tensor:
        """Return the teacher's unit features of class names, float32 [C, D of the teacher]."""
        return self.supervision_class.class_features(self.cfg, self.dm.dataset, classnames, self.load_teacher)

    def trainable_modules(self) -> dict[str, nn.Module]:
        """Return the modules to train and to save, by the names of their checkpoint folders."""
        return self.student.trainable_modules()

    def _build_optimizer(self, module: nn.Module) -> tuple:
        """Return Dassl's optimizer and learning-rate schedule."""
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
        self.supervision = self.supervision_class(
            self.cfg, self.dm.dataset, self.student, self.device, self.load_teacher
        )
        self.load_teacher.cache_clear()  # a supervision whose steps need the teacher keeps it
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
        """Return the weighted losses of a batch by name, scalars in float32; their sum is minimised."""
        output = self.train_student.outputs(batch, self.supervision.classes(batch))
        if batch.labels is not None:
            self._accuracy = compute_accuracy(output.logits.detach(), batch.labels)[0]
        return {**self.supervision.losses(output, batch), **self.train_student.regularization_losses(batch, output)}

    def compute_gradients(self, losses: dict[str, Tensor]) -> None:
        """Compute the gradients of all trained parameters, times the loss scale."""
        self.optimization.scaler.scale(torch.stack(list(losses.values())).sum()).backward()

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """Take one step, or none if the scaled gradients overflow.

        Returns:
            "loss", the sum; each loss if there are several; with labels "acc", the accuracy on the batch in percent.
        """
        self._accuracy = None
        losses = self.compute_losses(self.parse_batch_train(batch))
        accuracy = {} if self._accuracy is None else {"acc": self._accuracy}
        self.model_zero_grad()
        self.compute_gradients(losses)
        try:
            summary = self.optimization.step(losses, accuracy, self.model_update)
        except DivergenceError as error:
            raise self._divergence(str(error)) from None
        if len(losses) == 1:
            summary.pop(*losses)
        self._summaries.append(summary)
        self._count_step()
        self.timer.steps += 1
        return summary

    def _divergence(self, found: str) -> UserError:
        saved = max(checkpoint.epochs(Path(self.output_dir) / self.get_model_names()[0]), default=None)
        return UserError(
            f"The training diverged at epoch {self.epoch + 1} batch {self.batch_idx + 1}: {found}. Lower "
            "OPTIM.LR, set OPTIM.CLIP_GRAD_NORM 1.0 or use PREC fp32 "
            f"({'there is no checkpoint yet' if saved is None else f'the checkpoint of epoch {saved} is kept'})"
        )

    def after_epoch(self) -> None:
        self.epoch_means.append(EpochMean.of(self._summaries))
        found = non_finite_tensors(self._models)  # from the last step, whose loss was finite
        if found:
            raise self._divergence(", ".join(f"{name} contains NaN or Inf" for name in found))
        self._report_skipped_steps()
        self.update_lr()  # before the checkpoint, which keeps the rate of the next epoch
        super().after_epoch()
        if broadcast_from_main(int(time.monotonic() - self._saved >= SAVE_INTERVAL_S)):
            self.save_model(self.epoch, self.output_dir)
        elif is_main_process():
            self.timer.write(Path(self.output_dir), TIMER_INTERVAL_S)

    def _report_skipped_steps(self) -> None:
        if self.epoch + 1 == self.max_epoch and self.skipped_steps == self.max_epoch * self.num_batches:
            raise UserError(
                f"The whole training took no step: the float16 gradients of all {self.skipped_steps} batches "
                "overflowed, although the loss scale was halved after each. Use PREC bf16 or fp32, lower the loss "
                "weights, or train for more batches"
            )
        skipped = self.skipped_steps - self._skipped_before
        if skipped:
            print(
                f"Epoch {self.epoch + 1}: {skipped} of {self.num_batches} steps were skipped because float16 gradients "
                f"overflowed; the loss scale is now {self.optimization.scaler.get_scale():g}"
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
        folder, names = Path(directory), self.get_model_names()
        if not model_name:
            self._saved = time.monotonic()
        if is_main_process():
            contents = {name: self._checkpoint_of(name, epoch, val_result) for name in names}
            run_checkpoints.write(folder, model_name or f"model.pth.tar-{epoch + 1}", contents, is_best)
            if not model_name:
                self.timer.write(folder)
                run_checkpoints.remove_older(folder, names, epoch, self.cfg.TRAIN.CHECKPOINT_FREQ)
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
        if self.optimization.scaler.is_enabled():
            content.update(scaler=self.optimization.scaler.state_dict(), skipped_steps=self.skipped_steps)
        extra = self.extra_state()
        return {**content, "extra": extra} if extra else content

    def extra_state(self) -> dict[str, Tensor]:
        """Return further tensors that a resumed training needs."""
        return {}

    def restore_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore the result of `extra_state`."""

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
        tests_another = Path(directory).resolve() != Path(self.output_dir).resolve()  # else the best model of this run
        check_tested_run(directory, self.cfg, self.settings_key(), self.student)
        run_checkpoints.load_weights(self._models, Path(directory), epoch, self.student.ignored_keys)
        if tests_another:
            self.student.matching = self.relation_matching(self.cfg, directory, self.teacher_features)

    def resume_model_if_exist(self, directory):
        """Resume from the last epoch with readable checkpoints of all modules; return the number of finished epochs.

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
            finished = max(run_checkpoints.common_epochs(origin, self._models), default=0)
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
        epoch, contents = run_checkpoints.read_last(directory, self._models)
        if not epoch:
            return 0
        for _ in range(epoch):
            self.update_lr()
        for name, (path, content) in zip(self._models, contents.items(), strict=True):
            checkpoint.restore(self._models[name], content["state_dict"], path)
            checkpoint.restore_optimiser(self._optims[name], content, path)
            self.restore_extra_state(content.get("extra", {}))
            self.epoch_means = [EpochMean(*mean) for mean in content.get("epoch_means", [])]
            if "scaler" in content:
                self.optimization.scaler.load_state_dict(content["scaler"])
                self.optimization.skipped_steps = content["skipped_steps"]
        if self.cfg.TEST.FINAL_MODEL == "best_val":
            self._restore_best(directory)
        print(f"Resuming from epoch {epoch} in {directory}")
        return epoch

    def _restore_best(self, directory: Path) -> None:
        """Restore the best validation result so far, if all modules have it, and copy its files to this run."""
        contents, own = run_checkpoints.read_best(directory, self._models), Path(self.output_dir)
        if not contents:
            return
        self.best_result = min(content["val_result"] for content in contents.values())  # differ after a kill in between
        if is_main_process() and own.resolve() != directory.resolve():
            run_checkpoints.write(own, checkpoint.BEST, contents, is_best=True)

    def update_lr(self, names=None):
        with warnings.catch_warnings():  # while a resumed run replays the schedule, or if all steps were skipped
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            super().update_lr(names)

    # Testing ----------------------------------------------------------------------------------------------------

    def build_classifier(self) -> Classifier:
        """Return a function from image features [B, D] to logits [B, C]; class features are computed once per test."""
        return self.classifier_of(self.cfg, self.student)

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Return a function from images [B, 3, S, S] to logits [B, C]."""
        return self.student.predictor(self.build_classifier())

    def model_inference(self, images: Tensor) -> Tensor:
        return self.predictor()(images)

    def init_writer(self, log_dir: str) -> None:
        if is_main_process():
            super().init_writer(log_dir)

    def test(self, split: str | None = None) -> float:
        """Run Dassl's test with class features computed once; `results` stores the metrics at full precision, and
        confusion.npz the prediction for each image.

        Returns:
            The first metric (accuracy in percent), as Dassl.

        Raises:
            UserError: a logit is NaN or Inf.
        """
        begin, final = time.perf_counter(), split is None  # else a validation during training
        self.set_model_mode("eval")
        split = tested_split(self.cfg, self.dm.dataset, split)
        loader = self.val_loader if split == "val" else self.test_loader
        print(f"Evaluate on the *{split}* set")
        with torch.no_grad():
            classify = self.build_classifier()
        if self.student.matching is not None:
            self.load_teacher.cache_clear()  # the class features are computed
            if self.student.matching.chosen:
                count, weight = self.student.matching.chosen
                print(
                    f"{count} classes were not trained; their features t + mu t_frozen match the teacher's relations "
                    f"best with mu = {weight:g}"
                )
        logits, labels = compute_logits(self.cfg, self.student, classify, loader, self.parse_batch_test)
        check_finite(logits, split)
        if final and self.cfg.TEST.SAVE_PREDICTIONS and is_main_process():
            dataset, file = self.dm.dataset, Path(self.output_dir, "predictions.csv")
            root = getattr(dataset, "root", self.cfg.DATASET.ROOT)  # data sets of other code have none
            write_predictions(file, loader.dataset.data_source, root, dataset.classnames, logits)
        self.evaluator.reset()
        self.evaluator.process(logits, labels)
        with main_process_first():  # TEST.COMPUTE_CMAT writes a file
            results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        confusion = Path(self.output_dir, "confusion.npz") if final and is_main_process() else None
        theirs = {name: float(value) for name, value in results.items() if isinstance(value, (int, float))}
        self.results = {**score(logits, labels, self.dm.dataset.classnames, confusion), **theirs}
        self._test_seconds = time.perf_counter() - begin
        return next(iter(results.values()))
