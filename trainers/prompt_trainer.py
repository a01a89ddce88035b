"""The life cycle of a prompt learner under Dassl, once for all: a method names its student and its supervision."""

import random
import secrets
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
from fdbpl.distributed import agree, average_gradients, barrier, first_before_the_others, is_first, world_size
from fdbpl.errors import UserError
from fdbpl.prompts import POSITIONS

from . import checkpoint
from .student import Student
from .supervision.supervision import Supervision
from .supervision.teacher import DEFAULT_TEMPLATE
from .supervision.view import View

PRECISIONS = ("fp32", "fp16", "amp", "bf16")
FIRST_LOSS_SCALE = 2.0**12  # amp's scaler starts here in every epoch, so that a resumed run repeats a straight one
MOST_SKIPPED = 13  # steps in a row that overflow may cost: from 2^12 the scale has then come down to 1


def extend_cfg(cfg: CfgNode) -> None:
    cfg.OPTIM.CLIP_GRAD_NORM = 0.0  # largest norm of the gradient of everything learnt; 0.0 = no clipping
    cfg.OPTIM.ADAM_EPS = 1e-8  # of the Adam optimisers (TCP: 1e-3)


def register(trainer: type) -> type:
    """Register with Dassl under the class's name; a name that is taken (in a fork that has its own) is left alone."""
    if trainer.__name__ not in TRAINER_REGISTRY.registered_names():
        TRAINER_REGISTRY.register()(trainer)
    return trainer


def require(holds: bool, key: str, expected: str, found: object) -> None:
    """Refuse a setting that cannot work."""
    if not holds:
        raise UserError(f"expected {key} {expected}, found {found!r}; set another")


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
        require(settings.PREC in PRECISIONS, f"{name}.PREC", f"of {', '.join(PRECISIONS)}", settings.PREC)
        if settings.PREC in ("fp16", "amp") and not (torch.cuda.is_available() and cfg.USE_CUDA):
            raise UserError(
                f"expected a GPU for {name}.PREC {settings.PREC}, found a CPU; set {name}.PREC fp32 (or bf16)"
            )
        position = settings.get("CLASS_TOKEN_POSITION", POSITIONS[0])
        require(position in POSITIONS, f"{name}.CLASS_TOKEN_POSITION", f"of {', '.join(POSITIONS)}", position)
        for key, value in settings.items():
            require(not key.startswith("N_CTX") or value >= 1, f"{name}.{key}", "of at least 1", value)
        norm, epochs, loader = cfg.OPTIM.CLIP_GRAD_NORM, cfg.OPTIM.MAX_EPOCH, cfg.DATALOADER
        require(norm >= 0, "OPTIM.CLIP_GRAD_NORM", "of at least 0.0 (0.0 = off)", norm)
        require(epochs >= 1, "OPTIM.MAX_EPOCH", "of at least 1", epochs)
        for part in ("TRAIN_X", "TEST"):
            size = loader[part].BATCH_SIZE
            require(size >= 1, f"DATALOADER.{part}.BATCH_SIZE", "of at least 1", size)
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
            self.register_model(name, module, *self._optimiser_of(module))
        self.mixed_precision = settings.PREC in ("fp16", "amp")  # float16 gradients need a scaler
        self._skipped = 0  # steps in a row
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

    def _optimiser_of(self, module: nn.Module) -> tuple:
        """Dassl's optimiser and learning-rate schedule."""
        try:
            optimiser = build_optimizer(module, self.cfg.OPTIM)
            for group in optimiser.param_groups:
                if "eps" in group:  # Dassl has no key for it
                    group["eps"] = self.cfg.OPTIM.ADAM_EPS
            return optimiser, build_lr_scheduler(optimiser, self.cfg.OPTIM)
        except ValueError as error:
            raise UserError(f"expected OPTIM to describe an optimiser, found a mistake ({error}); mend it") from error

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
            self.scaler = torch.amp.GradScaler(self.device.type, init_scale=FIRST_LOSS_SCALE)
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
        norms = self._gradient_norms()
        self._clip_gradients(norms)
        accuracy = [] if self._accuracy is None else [self._accuracy.reshape(())]
        values = [loss, *terms.values(), *norms.values(), *accuracy]
        loss_value, *rest = torch.stack([value.detach() for value in values]).tolist()
        summary = {"loss": loss_value, **dict(zip(terms, rest, strict=False))}
        self._refuse_non_finite(summary, dict(zip(norms, rest[len(terms) :], strict=False)))
        if self.mixed_precision:
            for optimiser in self._optims.values():
                self.scaler.step(optimiser)
            self.scaler.update()
        else:
            self.model_update()
        if len(terms) == 1:
            summary = {"loss": loss_value}
        return {**summary, "acc": rest[-1]} if accuracy else summary

    def _parameters(self) -> list[nn.Parameter]:
        """Everything learnt."""
        return [value for module in self._models.values() for value in module.parameters()]

    def _gradient_norms(self) -> dict[str, Tensor]:
        """Norm of each learnt tensor's gradient."""
        learnt = self._learnt_tensors()
        return {name: value.grad.norm() for name, value in learnt.items() if getattr(value, "grad", None) is not None}

    def _learnt_tensors(self) -> dict[str, Tensor]:
        return {f"{name}.{key}": value for name, module in self._models.items()
                for key, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}  # fmt: skip

    def _clip_gradients(self, norms: dict[str, Tensor]) -> None:
        """Scale the gradients of all learners together down to OPTIM.CLIP_GRAD_NORM, as `nn.utils.clip_grad_norm_`."""
        if self.cfg.OPTIM.CLIP_GRAD_NORM:
            norm = torch.stack(list(norms.values())).norm()
            factor = (self.cfg.OPTIM.CLIP_GRAD_NORM / (norm + 1e-6)).clamp(max=1.0)
            for parameter in self._parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def _refuse_non_finite(self, terms: dict[str, float], gradients: dict[str, float]) -> None:
        """Stop where a loss term or a gradient is no number; the scaler may skip a few steps that overflow."""
        found = [f"{name} = {value}" for name, value in terms.items() if not np.isfinite(value)]
        if found:
            raise self._diverged(self._non_finite_tensors() + (found[1:] or found))  # the sum only where all terms are
        found = [f"{value} in the gradient of {name}" for name, value in gradients.items() if not np.isfinite(value)]
        self._skipped = self._skipped + 1 if found else 0
        if found and not (self.mixed_precision and self._skipped < MOST_SKIPPED):
            steps = f" in {self._skipped} steps in a row" * self.mixed_precision
            raise self._diverged([", ".join(found) + steps])

    def _non_finite_tensors(self) -> list[str]:
        """Which learnt tensors, batch norms' statistics included, hold a number that is none. Waits for the device."""
        learnt = self._learnt_tensors()
        finite = torch.stack([value.isfinite().all() for value in learnt.values()]).tolist()
        return [f"no number in {name}" for name, fine in zip(learnt, finite, strict=True) if not fine]

    def _diverged(self, found: list[str]) -> UserError:
        kept = max(checkpoint.epochs(Path(self.output_dir) / self.get_model_names()[0]), default=None)
        return UserError(
            f"expected finite numbers in training, found {', '.join(found)} at epoch {self.epoch + 1} batch "
            f"{self.batch_idx + 1}; lower OPTIM.LR, set OPTIM.CLIP_GRAD_NORM 1.0 or use PREC fp32 "
            f"({'no checkpoint yet' if kept is None else f'epoch {kept} is kept'})"
        )

    def after_epoch(self) -> None:
        found = self._non_finite_tensors()  # by the last step, whose loss was finite: not to be kept
        if found:
            raise self._diverged(found)
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

        Raises:
            UserError: a logit is no finite number.
        """
        begin = time.perf_counter()
        self.set_model_mode("eval")
        self.evaluator.reset()
        wanted = split or self.cfg.TEST.SPLIT
        split = "val" if wanted == "val" and self.val_loader is not None else "test"
        loader = self.val_loader if split == "val" else self.test_loader
        print(f"Evaluate on the *{split}* set")
        predict, finite = self.predictor(), torch.ones((), dtype=torch.bool, device=self.device)
        for batch in tqdm(loader, disable=None if is_first() else True):
            images, labels = self.parse_batch_test(batch)
            logits = predict(images)
            finite &= logits.isfinite().all()
            self.evaluator.process(logits, labels)
        if not finite:  # an accuracy of them would look like a result
            raise UserError(
                f"expected finite logits on the {split} set, found others; train with a lower OPTIM.LR or in PREC "
                "fp32, or load another checkpoint"
            )
        with first_before_the_others():  # TEST.COMPUTE_CMAT: a file
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
    """Seed Python's, numpy's and torch's generators from (seed, epoch); a negative seed leaves them to chance, with
    several processes to the chance of the first: they must read the same batches.

    Dassl's data loader draws its order and its workers' seeds from torch's generator when an epoch begins.
    """
    if seed < 0 and world_size() == 1:
        return
    if seed < 0:
        seed = agree(secrets.randbits(63))
    python, numpy, torch_seed = np.random.SeedSequence([seed, epoch]).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)
