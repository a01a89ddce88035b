"""The life cycle of a prompt learner under Dassl, once for all: a method names its student and its supervision."""

import random
import secrets
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.distributed import broadcast_from_main, is_main_process, main_process_first, world_size
from fdbpl.errors import UserError
from fdbpl.prompts import POSITIONS
from fdbpl.runs.progress import progress_bar

from .attempts import Attempts
from .batch import View
from .checks import keep_test_images_out
from .collapse import EpochMean, find_collapse
from .feature_cache import tested_features
from .predictions import write_predictions
from .run_inputs import tested_split
from .settings import check_method, check_settings, require, warn_about_warmup
from .stepping_trainer import SteppingTrainer
from .student import Scorer, Student, load_student_backbone
from .supervision.base import Supervision
from .templates import template_of

PRECISIONS = ("fp32", "fp16", "amp", "bf16")


class PromptTrainer(SteppingTrainer):
    """Trains what a student registers from what a supervision provides.

    Attributes:
        student_class: what is learnt.
        supervision_class: where the supervision comes from.
        node: `cfg.TRAINER.<node>` with the student's settings; by default the student's own.
        results: metrics of the last test at full precision: accuracy, error_rate, macro_f1 in percent.
        attempts: the steps of the training and the seconds of its stages, those of earlier attempts included.
        learnt_parameters: number of values that are trained.
        collapsed: whether the training ended in a classifier that cannot tell classes apart.
    """

    student_class: type[Student]
    supervision_class: type[Supervision]
    node = ""

    def __init__(self, cfg: CfgNode):
        self.results: dict[str, float] = {}
        self.attempts = Attempts()
        self.attempts.begin("total")
        self.attempts.begin("build")
        self._test_seconds: float | None = None
        self.learnt_parameters = 0
        self.epoch_means = []
        self.collapsed = False
        self._summaries: list[dict[str, float]] = []  # what the steps of the current epoch returned
        self._open = ExitStack()  # the progress bar
        self._count_step: Callable[[], object] = lambda: None
        super().__init__(cfg)
        self.attempts.end("build")

    @property
    def steps(self) -> int:
        """Steps of all attempts."""
        return self.attempts.steps

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds of all attempts up to now: "build", "prepare", "train", "total", "step" (the mean of a step), and of
        the last test alone "test"."""
        seconds = self.attempts.seconds()
        if "train" in seconds:
            seconds["step"] = seconds["train"] / max(self.steps, 1)
        return seconds if self._test_seconds is None else {**seconds, "test": self._test_seconds}

    # ---------------------------------------------------------------------------------------------- building

    @classmethod
    def settings(cls, cfg: CfgNode) -> CfgNode:
        """The student's node of the configuration."""
        return cfg.TRAINER[cls.node or cls.student_class.node]

    @classmethod
    def settings_key(cls) -> str:
        """The key of that node: TRAINER.<node>."""
        return f"TRAINER.{cls.node or cls.student_class.node}"

    @classmethod
    def region_bank_plan(cls, cfg: CfgNode) -> dict | None:
        """Arguments of `fdbpl.regions.generate` for a run of `cfg`, or None where no bank is read."""
        plan = cls.supervision_class.region_bank_plan
        if getattr(plan, "__func__", None) is getattr(Supervision.region_bank_plan, "__func__", None):
            return None
        from dassl.data.datasets import build_dataset
        from dassl.utils import set_random_seed

        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)  # as before training, so that the same few shots are drawn
        dataset = build_dataset(cfg)
        keep_test_images_out(cfg, dataset)
        return cls.supervision_class.region_bank_plan(cfg, dataset, cls.student_class)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse what cannot work, before data or weights are loaded."""
        settings = self.settings(cfg)
        name = self.settings_key()
        require(settings.PREC in PRECISIONS, f"{name}.PREC", f"of {', '.join(PRECISIONS)}", settings.PREC)
        if settings.PREC in ("fp16", "amp") and not (torch.cuda.is_available() and cfg.USE_CUDA):
            raise UserError(
                f"expected a GPU for {name}.PREC {settings.PREC}, found a CPU; set {name}.PREC fp32 (or bf16)"
            )
        position = settings.get("CLASS_TOKEN_POSITION", POSITIONS[0])
        require(position in POSITIONS, f"{name}.CLASS_TOKEN_POSITION", f"of {', '.join(POSITIONS)}", position)
        check_method(settings, name)
        check_settings(cfg)
        self.supervision_class.check_cfg(cfg)

    def build_data_loader(self) -> None:
        try:
            with main_process_first():  # few-shot lists (and the demo world) are made once
                super().build_data_loader()
        except (ValueError, AssertionError) as error:  # Dassl's
            raise UserError(
                f"expected DATASET, DATALOADER and INPUT to describe what is read, found a mistake ({error}); mend it"
            ) from error
        self.supervision = self.supervision_class(self.cfg, self.dm.dataset, self.device)
        self.train_loader_x = self.supervision.train_loader(self.train_loader_x, self.student_class)

    def build_model(self) -> None:
        settings, name = self.settings(self.cfg), self.cfg.MODEL.BACKBONE.NAME
        print(f"Loading CLIP (backbone: {name})")
        backbone = load_student_backbone(name, str(self.device), settings.PREC)
        if tuple(self.cfg.INPUT.SIZE) != (backbone.image_size,) * 2:
            raise UserError(
                f"expected INPUT.SIZE ({backbone.image_size}, {backbone.image_size}) for the backbone {name}, "
                f"found {tuple(self.cfg.INPUT.SIZE)}; set INPUT.SIZE to it"
            )
        reseed(self.cfg.SEED, 0)  # a random context depends on the seed alone
        self.student = self.build_student(backbone, self.dm.dataset.classnames).to(self.device)
        self.student.text_chunk = self.cfg.MODEL.TEXT_CHUNK
        self.model = self.student  # Dassl's name for it
        self.asked = self.student  # in training; a supervision may put its prompts before other class names
        for name, module in self.learners().items():
            module.to(self.device)
            self.register_model(name, module, *self._optimiser_of(module))
        self.scale_losses(settings.PREC in ("fp16", "amp"))
        self._print_what_is_learnt(backbone.model)

    def build_student(self, backbone, classnames: list[str]) -> Student:
        """The student, on the backbone's device."""
        features = lambda: self.supervision.class_features()  # noqa: E731 (most supervisions have none)
        return self.new_student(self.cfg, backbone, classnames, self.template(), features)

    @classmethod
    def new_student(
        cls, cfg: CfgNode, backbone, classnames: list[str], template: str, class_features: Callable[[], Tensor]
    ) -> Student:
        """A student of `cfg` that has learnt nothing yet; no data set is needed.

        Args:
            class_features: gives the teacher's unit features of the classes, for students that keep them (PromptKD).
        """
        return cls.student_class(cls.settings(cfg), backbone, classnames, template)

    def template(self) -> str:
        """The sentence around a class name."""
        return self.sentence(self.cfg, template_of(self.cfg, self.dm.dataset))

    @classmethod
    def sentence(cls, cfg: CfgNode, template: str) -> str:
        """The sentence around a class name, given the data set's: the very one."""
        return template

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
        self.attempts.begin("prepare")
        warn_about_warmup(self.cfg.OPTIM)
        self.asked = self.supervision.prepare(self.student)
        self.asked.prepare()
        super().before_train()
        steps = len(self.train_loader_x)
        bar = progress_bar(self.max_epoch * steps, self.start_epoch * steps, "Training", "step", not is_main_process())
        self._count_step = self._open.enter_context(bar)
        self.attempts.end("prepare")
        self.attempts.begin("train")

    def before_epoch(self) -> None:
        """Order of the images and their crops (workers included) become a function of seed and epoch alone."""
        reseed(self.cfg.SEED, self.epoch + 1)
        self.supervision.start_epoch(self.epoch)
        self._summaries = []
        super().before_epoch()

    def parse_batch_train(self, batch: dict) -> View:
        return self.supervision.read(batch)

    def loss_terms(self, view: View) -> dict[str, Tensor]:
        """Weighted loss terms of a batch, scalars in float32; their sum is minimised."""
        outputs = self.asked.outputs(view, self.supervision.classes(view))
        labelled = view.labels is not None
        self._accuracy = compute_accuracy(outputs.logits.detach(), view.labels)[0] if labelled else None
        return {**self.supervision.terms(outputs, view), **self.asked.own_terms(view, outputs)}

    def forward_backward(self, batch: dict) -> dict[str, float]:
        summary = super().forward_backward(batch)
        self._summaries.append(summary)
        self._count_step()
        self.attempts.steps += 1
        return summary

    def after_epoch(self) -> None:
        self.epoch_means.append(EpochMean.of(self._summaries))
        super().after_epoch()

    def after_train(self) -> None:
        self._open.close()
        self.attempts.end("train")
        self._warn_of_collapse()
        super().after_train()

    @torch.no_grad()
    def _warn_of_collapse(self) -> None:
        student, epochs = self.student, self.epoch_means
        features = None if student.text_follows_image else student.text_features()[0]
        found = find_collapse(
            epochs if len(epochs) == self.max_epoch else [],  # an old checkpoint does not have those before it
            len(student.classnames), features, student.backbone.logit_scale,
        )  # fmt: skip
        self.collapsed = bool(found)
        if found:
            print(
                f"Warning: the training collapsed: {found}. The learning rate is the likely cause: train again with a "
                f"lower OPTIM.LR (it is {self.cfg.OPTIM.LR:g}) or a lower OPTIM.CLIP_GRAD_NORM"
            )

    def train(self) -> None:
        if self._models:
            keep_test_images_out(self.cfg, self.dm.dataset)
            with self._open:  # the bar goes before an error speaks
                super().train()
        else:
            print(f"{type(self).__name__} learns nothing: testing it")
            self.test()

    # ----------------------------------------------------------------------------------------------- testing

    def scorer(self) -> Scorer:
        """Image features [B, D] -> logits [B, C]; class features are computed once per test."""
        return self.scorer_of(self.cfg, self.student)

    @classmethod
    def scorer_of(cls, cfg: CfgNode, student: Student, negative: nn.Module | None = None) -> Scorer:
        """The scorer of a student of `cfg`. Args: negative: FDBPL's negative prompt space."""
        return student.scorer()

    def predictor(self) -> Callable[[Tensor], Tensor]:
        """Images [B, 3, S, S] -> logits [B, C]."""
        return self.student.predictor(self.scorer())

    def init_writer(self, log_dir: str) -> None:
        if is_main_process():
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
        saved = self.cfg.TEST.SAVE_PREDICTIONS and split is None  # the final test, no validation during training
        split = tested_split(self.cfg, self.dm.dataset, split)
        loader = self.val_loader if split == "val" else self.test_loader
        print(f"Evaluate on the *{split}* set")
        kept: list[Tensor] = []
        score, finite = self.scorer(), torch.ones((), dtype=torch.bool, device=self.device)
        for features, labels in tested_features(self.cfg, self.student, loader, self.parse_batch_test):
            logits = score(features)
            finite &= logits.isfinite().all()
            self.evaluator.process(logits, labels)
            if saved:
                kept.append(logits.float().cpu())
        if not finite:  # an accuracy of them would look like a result
            raise UserError(
                f"expected finite logits on the {split} set, found others; train with a lower OPTIM.LR or in PREC "
                "fp32, or load another checkpoint"
            )
        if saved and is_main_process():
            dataset, file = self.dm.dataset, Path(self.output_dir, "predictions.csv")
            root = getattr(dataset, "root", self.cfg.DATASET.ROOT)  # data sets of other code have none
            write_predictions(file, loader.dataset.data_source, root, dataset.classnames, torch.cat(kept))
        with main_process_first():  # TEST.COMPUTE_CMAT: a file
            results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        self.results = {name: float(value) for name, value in results.items() if isinstance(value, (int, float))}
        self._test_seconds = time.perf_counter() - begin
        return next(iter(results.values()))


def reseed(seed: int, epoch: int) -> None:
    """Seed Python's, numpy's and torch's generators from (seed, epoch); a negative seed leaves them to chance, with
    several processes to the chance of the first: they must read the same batches.

    Dassl's data loader draws its order and its workers' seeds from torch's generator when an epoch begins.
    """
    if seed < 0 and world_size() == 1:
        return
    if seed < 0:
        seed = broadcast_from_main(secrets.randbits(63))
    python, numpy, torch_seed = np.random.SeedSequence([seed, epoch]).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(torch_seed)
