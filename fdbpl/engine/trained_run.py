"""A finished training run: its configuration, its student with the trained parameters, and its predictions."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cached_property
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from dassl.config import get_cfg_default
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import DATASET_REGISTRY, build_dataset
from dassl.data.transforms import build_transform
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.config import known_keys, merge, read_yaml, rename_keys
from fdbpl.devices import cpu_bf16
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import read_record
from fdbpl.io.image_batches import decoded
from fdbpl.io.image_reading import DISPLAYED, Decoding
from fdbpl.prompts import PromptLearner
from fdbpl.runs.folder import read_metrics

from . import checkpoint
from .feature_cache import iterate_features
from .image_dataset import dataset_wrapper, decoding_of
from .registry import TRAINERS, default_config, defaults_of_dataset, extend_cfg, import_trainers
from .run_compatibility import recorded_student
from .run_inputs import tested_split
from .student import Classifier, Student, load_student_backbone
from .templates import template_of
from .trainer import PromptTrainer

READ = ("MODEL.", "TRAINER.", "INPUT.", "TEACHER.", "REGIONS.")  # sections of which every key must be known


class Classified(NamedTuple):
    """A batch of classified image files.

    Attributes:
        paths: the B readable files.
        logits: float32 [B, C] on the CPU, scaled.
        unreadable: (path, reason) of the other files.
        none: probability that a readable image shows none of the classes, if the run trained a prompt for it.
    """

    paths: list[str]
    logits: Tensor
    unreadable: list[tuple[str, str]]
    none: list[float] | None = None


class ImageFeatures(NamedTuple):
    """Features of test images.

    Attributes:
        features: unit, float32 [N, D], on the CPU.
        images: the N images (Dassl's Datum).
        dataset: their data set.
    """

    features: Tensor
    images: list
    dataset: Any


class TrainedRun:
    """The run folder of a finished training.

    Args:
        folder: the run folder.
        device: device of the CLIP. On a CPU, a run in float16 (PREC fp16, amp), or in bfloat16 that the CPU
            lacks, is loaded in float32.

    Attributes:
        cfg: the run's configuration, frozen.
        trainer_class: the registered trainer.

    Raises:
        UserError: there is no finished training run, or this code does not know its settings.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu"):
        self.folder = Path(folder).expanduser()
        self.device = torch.device(device)
        self._check_folder()
        self.cfg = self._read_config()
        self.trainer_class = self._find_trainer()
        if self.device.type != "cuda":
            self._leave_half_precision()
        self.cfg.freeze()

    # Records of the run -----------------------------------------------------------------------------------------

    @cached_property
    def metrics(self) -> dict:
        """Content of metrics.json."""
        return read_metrics(self.folder, dataset=str, protocol=dict)

    @property
    def fingerprint(self) -> str:
        """Hex digest that identifies the run; the records of its tests contain it."""
        return self._record["fingerprint"]

    @property
    def classnames(self) -> list[str]:
        """Class names of the training, in the order of the labels."""
        names = self.metrics["protocol"].get("classnames")
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise UserError(
                f"{self.folder}/metrics.json has no valid class names (protocol.classnames is {names!r:.80}); run the "
                "training again"
            )
        return names

    @property
    def dataset(self) -> str:
        """Name of the data set of the training."""
        return self.metrics["dataset"]

    @property
    def subset(self) -> str:
        """Subset of the data set's classes: "all", "base" or "new"."""
        return str(self.metrics["protocol"].get("subsample") or self.cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"))

    @property
    def template(self) -> str:
        """Prompt template of the run."""
        recorded = self.metrics["protocol"].get("template")  # older runs have none
        if not isinstance(recorded, str | None) or (recorded and "{}" not in recorded):
            raise UserError(
                f"{self.folder}/metrics.json has no valid template with {{}} (protocol.template is {recorded!r:.80}); "
                "run the training again"
            )
        return self.trainer_class.choose_template(self.cfg, template_of(self.cfg, SimpleNamespace(template=recorded)))

    # Models -----------------------------------------------------------------------------------------------------

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen CLIP.

        Raises:
            UserError: its weights have changed since the training.
        """
        name, recorded = self.cfg.MODEL.BACKBONE.NAME, self._student_sha256
        backbone = load_student_backbone(name, str(self.device), self._settings.PREC)
        if recorded is None:
            print(f"{self.folder} has no hash of the weights of {name}, so they are not compared", file=sys.stderr)
        elif recorded != backbone.sha256:
            raise UserError(
                f"The weights of {name} have changed since the run in {self.folder} was trained with them (SHA-256 "
                f"{recorded:.12}, now {backbone.sha256:.12}); restore that file, or train again"
            )
        return backbone

    def student(self, classnames: list[str] | None = None, template: str | None = None) -> Student:
        """Return the student with the trained parameters, in eval mode.

        Args:
            classnames: C class names; None = those of the training.
            template: prompt template for frozen texts; None = that of the training.

        Raises:
            UserError: trained parameters or contexts (CSC) are class-specific and these are other classes; a checkpoint
                is missing, broken or of another method.
        """
        names = classnames or self.classnames
        student = self.trainer_class.new_student(
            self.cfg, self.backbone, names, template or self.template, lambda: self._teacher_features(names)
        )
        if student.class_specific and names != self.classnames:
            raise UserError(
                f"The run in {self.folder} trained parameters of its own {len(self.classnames)} classes, which other "
                "classes cannot use. Leave the class names out"
            )
        for name, module in student.trainable_modules().items():
            self._restore(module, name, student.ignored_keys)
        return student.to(self.device).eval().requires_grad_(False)

    def negative_prompt_learner(self, classnames: list[str] | None = None) -> PromptLearner | None:
        """Return FDBPL's negative prompt space; None for other trainers and students without text prompts."""
        return self.prompt_spaces(classnames).get("negative_prompt_learner")

    def prompt_spaces(self, classnames: list[str] | None = None) -> dict[str, PromptLearner]:
        """Return the prompts that were trained next to the student's, by module; {} for trainers other than FDBPL's."""
        spaces = self.trainer_class.new_prompt_spaces(self.cfg, self.backbone, classnames or self.classnames)
        for name, learner in spaces.items():
            self._restore(learner, name)
            learner.to(self.device).eval().requires_grad_(False)
        return spaces

    @property
    def rejects(self) -> bool:
        """True if predictions have a probability of "none of these" (TRAINER.FDBPL.NONE_WEIGHT)."""
        return (self.folder / "none_prompt_learner").is_dir()

    def contexts(self) -> dict[str, Tensor]:
        """Return the learned context vectors of the text tower's input by module, float32 [M, d] or [C, M, d] (CSC)."""
        modules = {**self.student().trainable_modules(), **self.prompt_spaces()}
        learners = {
            name: learner
            for name, module in modules.items()
            for learner in module.modules()
            if isinstance(learner, PromptLearner)
        }
        return {name: learner.ctx.detach().float() for name, learner in learners.items()}

    def data_config(self, dataset: str = "", root: str = "", subset: str = "") -> CfgNode:
        """The run's configuration, to build its data set or another one.

        Args:
            dataset: YAML of another data set; "" = the run's data set.
            root: folder of the data sets; "" = the run's.
            subset: "all", "base" or "new" classes; "" = the run's, all of another data set.

        Raises:
            UserError: the data set is not registered.
        """
        cfg = default_config()
        cfg.set_new_allowed(True)
        cfg.merge_from_other_cfg(self.cfg)
        if dataset:
            values = read_yaml(dataset)
            cfg.INPUT.EXIF_ORIENTATION, cfg.INPUT.WHITE_BACKGROUND = False, False  # a run on custom data has others
            merge(cfg, {**defaults_of_dataset(values.get("DATASET.NAME", "")), **values}, dataset)
        if cfg.DATASET.NAME not in DATASET_REGISTRY.registered_names():
            raise UserError(
                f"The data set {cfg.DATASET.NAME} of {self.folder} is not registered here; run the command in the "
                "checkout that contains it"
            )
        cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
        if subset or dataset:
            cfg.DATASET.SUBSAMPLE_CLASSES = subset or "all"
        return cfg

    def test_features(self, cfg: CfgNode | None = None) -> ImageFeatures:
        """Compute the features of test images, or read them from the cache.

        Args:
            cfg: as from `data_config`; None = that of the run.

        Raises:
            UserError: the files of the data set are missing.
        """
        cfg = cfg or self.data_config()
        dataset = build_dataset(cfg)
        images = getattr(dataset, tested_split(cfg, dataset))
        loader = build_data_loader(
            cfg, data_source=images, batch_size=cfg.DATALOADER.TEST.BATCH_SIZE, tfm=self.transform, is_train=False,
            dataset_wrapper=dataset_wrapper(cfg),
        )  # fmt: skip
        with torch.no_grad():
            batches = iterate_features(cfg, self.student(), loader, lambda batch: (batch["img"], batch["label"]))
            features = torch.cat([features.cpu() for features, _ in batches])
        return ImageFeatures(features, list(images), dataset)

    def classify_features(
        self, features: Tensor, classnames: list[str] | None = None, template: str | None = None
    ) -> Tensor:
        """Logits, float32 [N, C], of the unit features [N, D] of `test_features`; other arguments as for `student`."""
        with torch.no_grad():
            classify = self._classifier(self.student(classnames, template), classnames)
            batches = features.to(self.device).split(self.cfg.DATALOADER.TEST.BATCH_SIZE)
            return torch.cat([classify(batch).float().cpu() for batch in batches])

    def _classifier(self, student: Student, classnames: list[str] | None) -> Classifier:
        return self.trainer_class.classifier_of(self.cfg, student, self.negative_prompt_learner(classnames))

    def predictor(self, classnames: list[str] | None = None, with_none: bool = False) -> Callable[[Tensor], Tensor]:
        """Return the function of the run's test: images [B, 3, S, S] from `transform` -> logits, float32 [B, C].

        Args:
            with_none: append the logit of FDBPL's prompt "none of these", if the run trained one: [B, C + 1].
        """
        with torch.no_grad():
            student = self.student(classnames)
            classify = self._classifier(student, classnames)
            none = self.prompt_spaces(classnames).get("none_prompt_learner") if with_none else None
            if none is None:
                return torch.no_grad()(student.predictor(classify))
            (f_none,) = student.encode(none())
            return torch.no_grad()(
                student.predictor(lambda x: torch.cat([classify(x), student.logits(x, f_none)], dim=-1))
            )

    def classify(
        self,
        paths: list[str],
        classnames: list[str] | None = None,
        batch_size: int = 0,
        decoding: Decoding | None = None,
    ) -> Iterator[Classified]:
        """Classify image files in order, batch by batch, as the run's test does.

        Args:
            classnames: C class names; None = those of the training.
            batch_size: 0 = that of the run's test.
            decoding: None = the run's `decoding`.

        Raises:
            UserError: the run cannot serve these class names, or a logit is NaN or infinite.
        """
        predict, count = self.predictor(classnames, with_none=True), len(classnames or self.classnames)
        warnings.filterwarnings("ignore", module="PIL")  # about unusual but readable files
        batches = decoded(
            paths, self.transform, batch_size or self.cfg.DATALOADER.TEST.BATCH_SIZE, side=max(self.cfg.INPUT.SIZE),
            decoding=decoding or self.decoding,
        )  # fmt: skip
        empty = torch.empty(0, count)
        for readable, images, unreadable in batches:
            logits = empty if images is None else predict(images).float().cpu()
            if not logits.isfinite().all():
                raise UserError(f"the logits of the run in {self.folder} contain NaN or Inf; train it again")
            none = logits.softmax(dim=-1)[:, count].tolist() if logits.shape[1] > count else None
            yield Classified(readable, logits[:, :count], unreadable, none)

    @property
    def decoding(self) -> Decoding:
        """Decoding of images to classify: that of the training if it used custom data, else as displayed."""
        return decoding_of(self.cfg) if self.cfg.DATASET.NAME == "Folder" else DISPLAYED

    @cached_property
    def transform(self) -> Callable:
        """Dassl's transform of test images: PIL image in RGB -> float32 [3, S, S]."""
        with redirect_stdout(StringIO()):  # Dassl prints the transform
            return build_transform(self.cfg, is_train=False)

    @property
    def _student_sha256(self) -> str | None:
        """Recorded hash of the student's CLIP; None in records of older versions."""
        file = self.folder / "run.json"
        return recorded_student(self._record) if file.is_file() else None

    @property
    def _record(self) -> dict:
        return read_record(self.folder / "run.json", "the record of a run", "run it again", fingerprint=str, task=str)

    # Loading ----------------------------------------------------------------------------------------------------

    @property
    def _settings(self) -> CfgNode:
        return self.trainer_class.settings(self.cfg)

    def _check_folder(self) -> None:
        problem = ""
        if not self.folder.is_dir():
            problem = "the folder does not exist"
        elif not (self.folder / "config.yaml").is_file():
            problem = "it has no config.yaml"
        elif not (self.folder / "done.json").is_file():
            problem = "the run is unfinished (it has no done.json)"
        elif (self.folder / "run.json").is_file():
            problem = _describe_test(self._record)
        if problem:
            raise UserError(
                f"{self.folder} is not a finished training run: {problem}. Give the folder of a training that train.py "
                "has finished"
            )

    def _read_config(self) -> CfgNode:
        """Merge the run's values into the defaults; unknown keys of data sets are kept."""
        cfg, file = get_cfg_default(), str(self.folder / "config.yaml")
        extend_cfg(cfg)
        values, known = rename_keys(read_yaml(file)), set(known_keys(cfg))
        merge(cfg, {key: value for key, value in values.items() if key in known or key.startswith(READ)}, file)
        for key in values.keys() - known:
            *path, name = key.split(".")
            node = cfg
            for part in path:
                node = node.setdefault(part, CfgNode()) if isinstance(node, CfgNode) else None
            if not isinstance(node, CfgNode) or isinstance(node.get(name), CfgNode):
                raise UserError(f"{file} contains {quoted(key)}, which is not a configuration key; give another run")
            node[name] = values[key]
        return cfg

    def _find_trainer(self) -> type[PromptTrainer]:
        import_trainers()
        name = self.cfg.TRAINER.NAME
        if name not in TRAINERS:
            raise UserError(
                f"{self.folder} is a run of the trainer {quoted(name)}, which is not registered here (registered: "
                f"{', '.join(sorted(TRAINERS))}); give another run"
            )
        return TRAINERS[name]

    def _leave_half_precision(self) -> None:
        if self._settings.PREC in ("fp16", "amp") or (self._settings.PREC == "bf16" and not cpu_bf16()):
            self._settings.PREC = "fp32"
        if self.cfg.TEACHER.PREC == "fp16":
            self.cfg.TEACHER.PREC = "fp32"

    def _restore(self, module: nn.Module, name: str, ignored: tuple[str, ...] = ()) -> None:
        path = checkpoint.find_checkpoint(self.folder / name, None)
        checkpoint.restore(module, checkpoint.read(path)["state_dict"], path, ignored)

    def _teacher_features(self, classnames: list[str]) -> Tensor:
        """Return unit class features of the run's teacher, float32 [C, D of the teacher]."""
        dataset = SimpleNamespace(classnames=classnames, template=self.template)
        supervision = self.trainer_class.supervision_class
        return supervision.class_features(
            self.cfg, dataset, lambda: supervision.load_teacher(self.cfg, dataset, self.device)
        )


def load_run(folder: str | Path, device: str | torch.device = "cpu") -> TrainedRun:
    """Load a finished training run (see `TrainedRun`).

    Raises:
        UserError: there is no finished training run, or this code does not know its settings.
    """
    return TrainedRun(folder, device)


def _describe_test(record: dict) -> str:
    """Describe a run that only tested weights; an empty string for a training."""
    if not str(record.get("task")).startswith("test"):
        return ""
    command = [str(word) for word in record.get("command") or []]
    for flag, value in zip(command, [*command[1:], ""], strict=True):
        if flag.startswith("--model-dir"):
            return f"it is a test of the run in {flag.partition('=')[2] or value}"
    return "it is a test of another run"
