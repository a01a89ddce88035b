"""The life cycle of a prompt learner under Dassl, once for all: a method names its student and its supervision."""

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from torch import Tensor, nn
from tqdm import tqdm
from yacs.config import CfgNode

from fdbpl.backbones import load_backbone
from fdbpl.distributed import average_gradients, barrier, first_before_the_others, is_first, world_size
from fdbpl.errors import UserError
from fdbpl.prompts import POSITIONS

from . import checkpoint
from .student import Student
from .supervision.supervision import Supervision
from .supervision.teacher import DEFAULT_TEMPLATE
from .supervision.view import View

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
FIRST_LOSS_SCALE = 2.0**12  # amp's scaler starts here in every epoch, so that a resumed run repeats a straight one


def extend_cfg(cfg: CfgNode) -> None:
    cfg.OPTIM.CLIP_GRAD_NORM = 0.0  # largest norm of the gradient of everything learnt; 0.0 = no clipping
    cfg.OPTIM.ADAM_EPS = 1e-8  # of the Adam optimisers (TCP: 1e-3)


def register(trainer: type) -> type:
    """Register with Dassl under the class's name; a name that is taken (in a fork that has its own) is left alone."""
    if trainer.__name__ not in TRAINER_REGISTRY.registered_names():
        TRAINER_REGISTRY.register()(trainer)
    return trainer


class PromptTrainer(TrainerX):
    """Trains what a student registers from what a supervision provides.

    Attributes:
        student_class: what is learnt.
        supervision_class: where the supervision comes from.
        node: `cfg.TRAINER.<node>` with the student's settings; by default the student's own.
        results: metrics of the last test at full precision: accuracy, error_rate, macro_f1 in percent.
        seconds: duration of the stages "prepare", "train" and "test" (the last one), and "step", the mean of a step.
        steps: done by this process (fewer than the schedule's where it resumed).
        learnt_parameters: number of values that are trained.
    """

    student_class: type[Student]
    supervision_class: type[Supervision]
    node = ""

    def __init__(self, cfg: CfgNode):
        self.results: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.steps = self.learnt_parameters = 0
        super().__init__(cfg)

    # ---------------------------------------------------------------------------------------------- building

    @classmethod
    def settings(cls, cfg: CfgNode) -> CfgNode:
        """The student's node of the configuration."""
        return cfg.TRAINER[cls.node or cls.student_class.node]

    @classmethod
    def region_bank_plan(cls, cfg: CfgNode) -> dict | None:
        """Arguments of `fdbpl.regions.generate` for a run of `cfg`, or None where no bank is read."""
        if cls.supervision_class.region_bank_plan.__func__ is Supervision.region_bank_plan.__func__:
            return None
        from dassl.data.datasets import build_dataset
        from dassl.utils import set_random_seed

        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)  # as before training, so that the same few shots are drawn
        return cls.supervision_class.region_bank_plan(cfg, build_dataset(cfg), cls.student_class.frozen_image_tower)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse what cannot work, before data or weights are loaded."""
        settings = self.settings(cfg)
        name = f"TRAINER.{self.node or self.student_class.node}"
        if settings.PREC not in PRECISIONS:
            raise UserError(f"expected {name}.PREC of {', '.join(PRECISIONS)}, found {settings.PREC!r}; choose one")
        if settings.PREC in ("fp16", "amp") and not (torch.cuda.is_available() and cfg.USE_CUDA):
            raise UserError(
                f"expected a GPU for {name}.PREC {settings.PREC}, found a CPU; set {name}.PREC fp32 (or bf16)"
            )
        position = settings.get("CLASS_TOKEN_POSITION", POSITIONS[0])
        if position not in POSITIONS:
            raise UserError(
                f"expected {name}.CLASS_TOKEN_POSITION of {', '.join(POSITIONS)}, found {position!r}; choose one"
            )
        if settings.get("N_CTX", 1) < 1:
            raise UserError(f"expected {name}.N_CTX of at least 1, found {settings.N_CTX}; give a positive number")
        if cfg.OPTIM.CLIP_GRAD_NORM < 0:
            raise UserError(
                f"expected OPTIM.CLIP_GRAD_NORM of at least 0.0 (0.0 = off), found {cfg.OPTIM.CLIP_GRAD_NORM}; mend it"
            )
        if cfg.SEED < 0 and world_size() > 1:
            raise UserError("expected a seed that all processes share (--seed 1), found none; give one")
        self.supervision_class.check_cfg(cfg)

    def build_data_loader(self) -> None:
        with first_before_the_others():  # few-shot lists (and the demo world) are made once
            super().build_data_loader()
        self.supervision = self.supervision_class(self.cfg, self.dm.dataset, self.device)
        self.train_loader_x = self.supervision.train_loader(self.train_loader_x, self.student_class)

    def build_model(self) -> None:
        settings, name = self.settings(self.cfg), self.cfg.MODEL.BACKBONE.NAME
        print(f"Loading CLIP (backbone: {name})")
        backbone = load_backbone(name, str(self.device), "fp16" if settings.PREC == "fp16" else "fp32")
        if tuple(self.cfg.INPUT.SIZE) != (backbone.image_size,) * 2:
            raise UserError(
                f"expected INPUT.SIZE ({backbone.image_size}, {backbone.image_size}) for the backbone {name}, "
                f"found {tuple(self.cfg.INPUT.SIZE)}; set INPUT.SIZE to it"
            )
        reseed(self.cfg.SEED, 0)  # a random context depends on the seed alone
        self.student = self.build_student(settings, backbone, self.dm.dataset.classnames).to(self.device)
        self.model = self.student  # Dassl's name for it
        self.asked = self.student  # in training; a supervision may put its prompts before other class names
        for name, module in self.learners().items():
            module.to(self.device)
            optimiser = build_optimizer(module, self.cfg.OPTIM)
            for group in optimiser.param_groups:
                if "eps" in group:  # Dassl has no key for it
                    group["eps"] = self.cfg.OPTIM.ADAM_EPS
            self.register_model(name, module, optimiser, build_lr_scheduler(optimiser, self.cfg.OPTIM))
        self.mixed_precision = settings.PREC in ("fp16", "amp")  # float16 gradients need a scaler
        self._print_what_is_learnt(backbone.model)

    def build_student(self, settings: CfgNode, backbone, classnames: list[str]) -> Student:
        """The student, on the backbone's device."""
        return self.student_class(settings, backbone, classnames, self.template())

    def template(self) -> str:
        """The sentence around a class name: the data set's."""
        return getattr(self.dm.dataset, "template", DEFAULT_TEMPLATE)

    def learners(self) -> dict[str, nn.Module]:
        """Modules that are trained and kept, by the names of their checkpoint folders."""
        return self.student.learners()

    def _print_what_is_learnt(self, frozen: nn.Module) -> None:
        sizes = {f"{name}.{key}": value for name, module in self.learners().items()
                 for key, value in module.named_parameters() if value.requires_grad}  # fmt: skip
        names = ", ".join(f"{name} {list(value.shape)}" for name, value in sizes.items()) or "nothing"
        self.learnt_parameters = sum(value.numel() for value in sizes.values())
        kept = sum(value.numel() for value in frozen.parameters())
        print(f"Learnt: {names}: {self.learnt_parameters:,} parameters; frozen: {kept:,}")

    # ---------------------------------------------------------------------------------------------- training

    def before_train(self) -> None:
        begin = time.perf_counter()
        self.asked = self.supervision.prepare(self.student)
        super().before_train()
        self._train_begin = time.perf_counter()
        self.seconds["prepare"] = self._train_begin - begin

    def before_epoch(self) -> None:
        """Order of the images and their crops (workers included) become a function of seed and epoch alone."""
        reseed(self.cfg.SEED, self.epoch + 1)
        self.supervision.start_epoch(self.epoch)
        if self.mixed_precision:
            self.scaler = torch.amp.GradScaler("cuda", init_scale=FIRST_LOSS_SCALE)
        super().before_epoch()

    def parse_batch_train(self, batch: dict) -> View:
        return self.supervision.read(batch)

    def loss_terms(self, view: View) -> dict[str, Tensor]:
        """Weighted loss terms of a batch, scalars in float32; their sum is minimised."""
        outputs = self.asked.outputs(view, self.supervision.classes(view))
        labelled = view.labels is not None
        self._accuracy = compute_accuracy(outputs.logits.detach(), view.labels)[0] if labelled else None
        return {**self.supervision.terms(outputs, view), **self.asked.own_terms(view, outputs)}

    def compute_gradients(self, terms: dict[str, Tensor]) -> None:
        """Gradients of everything learnt, times the scaler's factor where there is one."""
        self.scaled(torch.stack(list(terms.values())).sum()).backward()

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss) if self.mixed_precision else loss

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """One step. The host waits for the device once, after the backward pass."""
        self._accuracy = None
        terms = self.loss_terms(self.parse_batch_train(batch))
        loss = torch.stack(list(terms.values())).sum()
        self.model_zero_grad()
        self.compute_gradients(terms)
        average_gradients(self._parameters())
        if self.mixed_precision:
            for optimiser in self._optims.values():
                self.scaler.unscale_(optimiser)
        norm = self._clip_gradients()
        values = [loss.detach(), *(term.detach() for term in terms.values()), norm]
        accuracy = [] if self._accuracy is None else [self._accuracy.reshape(())]
        loss_value, *rest = torch.stack([*values, *accuracy]).tolist()
        summary = {"loss": loss_value, **dict(zip(terms, rest, strict=False))}
        norm_value = rest[len(terms)]
        self._refuse_non_finite(summary if self.mixed_precision else {**summary, "gradient_norm": norm_value})
        if self.mixed_precision:
            for optimiser in self._optims.values():
                self.scaler.step(optimiser)
            self.scaler.update()
        else:
            self.model_update()
        if len(terms) == 1:
            summary = {"loss": loss_value}
        return {**summary, "acc": rest[-1]} if accuracy else summary

    def _clip_gradients(self) -> Tensor:
        """Norm of the gradient over all learners together, before clipping."""
        return nn.utils.clip_grad_norm_(self._parameters(), self.cfg.OPTIM.CLIP_GRAD_NORM or float("inf"))

    def _parameters(self) -> list[nn.Parameter]:
        """Everything learnt."""
        return [value for module in self._models.values() for value in module.parameters()]

    def _refuse_non_finite(self, values: dict[str, float]) -> None:
        bad = [name for name, value in values.items() if not np.isfinite(value)]
        if bad:
            kept = max(checkpoint.epochs(Path(self.output_dir) / self.get_model_names()[0]), default=None)
            raise UserError(
                f"expected finite numbers in training, found {', '.join(f'{name} = {values[name]}' for name in bad)} "
                f"at epoch {self.epoch + 1} batch {self.batch_idx + 1}; lower OPTIM.LR, set OPTIM.CLIP_GRAD_NORM 1.0 "
                f"or use PREC fp32 ({'no checkpoint yet' if kept is None else f'epoch {kept} is kept'})"
            )

    def after_epoch(self) -> None:
        self.update_lr()  # before the checkpoint, which keeps the rate of the epoch to come
        super().after_epoch()

    def after_train(self) -> None:
        self.seconds["train"] = time.perf_counter() - self._train_begin
        self.steps = (self.max_epoch - self.start_epoch) * len(self.train_loader_x)
        self.seconds["step"] = self.seconds["train"] / max(self.steps, 1)
        super().after_train()

    def train(self) -> None:
        if self._models:
            super().train()
        else:
            print(f"{type(self).__name__} learns nothing: testing it")
            self.test()

    # ----------------------------------------------------------------------------------------------- testing

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Images [B, 3, S, S] -> logits [B, C]; class features are computed once per test."""
        return self.student.predictor()

    def init_writer(self, log_dir: str) -> None:
        if is_first():
            super().init_writer(log_dir)

    def model_inference(self, images: Tensor) -> Tensor:
        return self.predictor()(images)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Dassl's test with the class features computed once; keeps the metrics at full precision.

        Returns:
            The first metric (accuracy in percent), as Dassl.
        """
        begin = time.perf_counter()
        self.set_model_mode("eval")
        self.evaluator.reset()
        wanted = split or self.cfg.TEST.SPLIT
        split = "val" if wanted == "val" and self.val_loader is not None else "test"
        loader = self.val_loader if split == "val" else self.test_loader
        print(f"Evaluate on the *{split}* set")
        predict = self.predictor()
        for batch in tqdm(loader, disable=None if is_first() else True):
            images, labels = self.parse_batch_test(batch)
            self.evaluator.process(predict(images), labels)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        self.results = {name: float(value) for name, value in results.items() if isinstance(value, (int, float))}
        self.seconds["test"] = time.perf_counter() - begin
        return next(iter(results.values()))

    # ------------------------------------------------------------------------------------------- checkpoints

    def save_model(self, epoch, directory, is_best=False, val_result=None, model_name=""):
        """Dassl's files, each written whole or not at all, holding tensors and plain values only."""
        if is_first():
            self._write_checkpoints(epoch, directory, is_best, val_result, model_name)
        barrier()

    def _write_checkpoints(self, epoch, directory, is_best, val_result, model_name) -> None:
        for name in self.get_model_names():
            content = {
                "state_dict": self._models[name].state_dict(),
                "epoch": epoch + 1,
                "optimizer": self._optims[name].state_dict(),
                "scheduler": self._scheds[name].state_dict(),
                "val_result": None if val_result is None else float(val_result),
            }
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
        if not self._models:
            return
        if not directory:
            raise UserError(f"expected --model-dir with the weights of {type(self).__name__}, found none; name a run")
        for name, module in self._models.items():
            path = checkpoint.choose(Path(directory) / name, epoch)
            content = checkpoint.read(path)
            checkpoint.restore(module, content["state_dict"], path, self.student.ignored_keys)
            print(f'Loaded {name} from "{path}" (epoch = {content.get("epoch")})')

    def resume_model_if_exist(self, directory):
        """Continue from the last epoch that all modules have a readable checkpoint of; returns the epochs done.

        The learning rate is replayed step by step, so it does not depend on what a scheduler stores.
        """
        folders = {name: Path(directory) / name for name in self._models}
        common = set.intersection(*(set(checkpoint.epochs(folder)) for folder in folders.values()))
        for epoch in sorted(common, reverse=True):
            paths = {name: folder / f"model.pth.tar-{epoch}" for name, folder in folders.items()}
            try:
                contents = {name: checkpoint.read(path) for name, path in paths.items()}
            except UserError as error:
                print(f"Skipping epoch {epoch}: {error}")
                continue
            self._replay_learning_rates(epoch)
            for name, content in contents.items():
                checkpoint.restore(self._models[name], content["state_dict"], paths[name])
                self._optims[name].load_state_dict(content["optimizer"])
                self.restore_extra_state(content.get("extra", {}))
            best = folders[self.get_model_names()[0]] / checkpoint.BEST
            if self.cfg.TEST.FINAL_MODEL == "best_val" and best.is_file():
                self.best_result = checkpoint.read(best)["val_result"] or self.best_result
            print(f"Resuming from epoch {epoch} in {directory}")
            return epoch
        if self.cfg.RESUME:
            raise UserError(
                f"expected checkpoints of {', '.join(folders)} in {self.cfg.RESUME} to resume from, found none; "
                "check --resume"
            )
        print("No checkpoint found, train from scratch")
        return 0

    def _replay_learning_rates(self, epochs: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # no step to wait for
            for _ in range(epochs):
                self.update_lr()


def reseed(seed: int, epoch: int) -> None:
    """Seed Python's, numpy's and torch's generators from (seed, epoch); a negative seed leaves them to chance.

    Dassl's data loader draws its order and its workers' seeds from torch's generator when an epoch begins.
    """
    if seed < 0:
        return
    python, numpy, torch_seed = np.random.SeedSequence([seed, epoch]).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)
