"""A finished training run, taken up to be used: its student with what it learnt, for its classes or any others."""

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.backbones import Backbone
from fdbpl.config import known_keys, merge, read_yaml, rename_keys
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import read_record
from fdbpl.prompts import PromptLearner
from fdbpl.runs.folder import read_metrics

from . import checkpoint
from .feature_cache import tested_features
from .registry import TRAINERS, extend_cfg, import_trainers
from .run_compatibility import recorded_student
from .student import Student, load_student_backbone
from .templates import template_of
from .trainer import PromptTrainer

READ = ("MODEL.", "TRAINER.", "INPUT.", "TEACHER.", "REGIONS.")  # sections whose every key has to be understood


class FinishedRun:
    """What train.py left in a run folder.

    Args:
        folder: the run folder.
        device: where the CLIP goes. On a CPU, what was trained in float16 (PREC fp16, amp) is read in float32.

    Attributes:
        cfg: the run's configuration, frozen.
        trainer_class: the registered trainer.

    Raises:
        UserError: no finished training run there, or one that this code does not understand.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu"):
        self.folder = Path(folder).expanduser()
        self.device = torch.device(device)
        self._refuse_other_folders()
        self.cfg = self._read_config()
        self.trainer_class = self._find_trainer()
        if self.device.type != "cuda":
            self._leave_float16()
        self.cfg.freeze()

    # what the run says of itself --------------------------------------------------------------------------------

    @cached_property
    def metrics(self) -> dict:
        """The content of metrics.json."""
        return read_metrics(self.folder, dataset=str, protocol=dict)

    @property
    def fingerprint(self) -> str:
        """Hex digest that identifies the run; tests of it carry it in their task."""
        return self._record["fingerprint"]

    @property
    def classnames(self) -> list[str]:
        """The classes it learnt, in the order of the labels."""
        names = self.metrics["protocol"].get("classnames")
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise UserError(
                f"expected class names (protocol.classnames) in {self.folder}/metrics.json, found {names!r:.80}; "
                "run it again"
            )
        return names

    @property
    def dataset(self) -> str:
        """The name of the data set it was trained on."""
        return self.metrics["dataset"]

    @property
    def subset(self) -> str:
        """The part of its data set's classes that it learned: "all", "base" or "new"."""
        return str(self.metrics["protocol"].get("subsample") or self.cfg.DATASET.get("SUBSAMPLE_CLASSES", "all"))

    @property
    def template(self) -> str:
        """The sentence around a class name that the run used."""
        recorded = self.metrics["protocol"].get("template")  # older runs have none
        if not isinstance(recorded, str | None) or (recorded and "{}" not in recorded):
            raise UserError(
                f"expected a sentence with {{}} for the class name as protocol.template in {self.folder}/metrics.json, "
                f"found {recorded!r:.80}; run it again"
            )
        return self.trainer_class.sentence(self.cfg, template_of(self.cfg, SimpleNamespace(template=recorded)))

    # what it learnt ---------------------------------------------------------------------------------------------

    @cached_property
    def backbone(self) -> Backbone:
        """The frozen CLIP.

        Raises:
            UserError: its weights are not those that the run was trained around.
        """
        name, recorded = self.cfg.MODEL.BACKBONE.NAME, self._student_sha256
        backbone = load_student_backbone(name, str(self.device), self._settings.PREC)
        if recorded is None:
            print(f"{self.folder} does not record the weights of {name}: they are not compared", file=sys.stderr)
        elif recorded != backbone.sha256:
            raise UserError(
                f"The weights of {name} have changed since the run in {self.folder} was trained around them (SHA-256 "
                f"{recorded:.12}, now {backbone.sha256:.12}); restore that file, or train again"
            )
        return backbone

    def student(self, classnames: list[str] | None = None, template: str | None = None) -> Student:
        """The student with what it learnt, in eval mode.

        Args:
            classnames: C names to put its prompts before; None = the run's.
            template: a frozen sentence other than the run's (of the data set that a trained teacher teaches).

        Raises:
            UserError: each class has a context of its own (CSC) and these are others; weights that are missing, broken
                or of another method.
        """
        names, sentence = classnames or self.classnames, template or self.template
        student = self.trainer_class.new_student(
            self.cfg, self.backbone, names, sentence, lambda: self._teacher_class_features(names)
        )
        for name, module in student.learners().items():
            self._restore(module, name, student.ignored_keys)
        return student.to(self.device).eval().requires_grad_(False)

    def negative_prompt_learner(self, classnames: list[str] | None = None) -> PromptLearner | None:
        """FDBPL's negative prompt space; None for other trainers and for students whose text is fixed."""
        new = getattr(self.trainer_class, "new_negative_space", None)
        learner = new(self.cfg, self.backbone, classnames or self.classnames) if new else None
        if learner is not None:
            self._restore(learner, "negative_prompt_learner")
            learner.to(self.device).eval().requires_grad_(False)
        return learner

    def contexts(self) -> dict[str, Tensor]:
        """Learned context vectors at the input of the text tower, by module: float32 [M, d], or [C, M, d] with CSC."""
        modules = dict(self.student().learners())
        negative = self.negative_prompt_learner()
        if negative is not None:
            modules["negative_prompt_learner"] = negative
        learners = {
            name: learner
            for name, module in modules.items()
            for learner in module.modules()
            if isinstance(learner, PromptLearner)
        }
        return {name: learner.ctx.detach().float() for name, learner in learners.items()}

    def test_image_features(self, defaults: CfgNode, root: str = "") -> tuple[Tensor, list, str]:
        """Unit features of the images that the run was tested on, float32 [N, D], the N images (Dassl's Datum), and
        the folder of their data set.

        Features that a test has cached are read, others are computed.

        Args:
            defaults: configuration with the keys of all data sets, for those that the run's lacks.
            root: folder of the data sets; "" = the run's.

        Raises:
            UserError: the data set is not registered, or its files are not there.
        """
        from dassl.data.data_manager import build_data_loader
        from dassl.data.datasets import DATASET_REGISTRY, build_dataset

        cfg = defaults.clone()
        cfg.set_new_allowed(True)
        cfg.merge_from_other_cfg(self.cfg)
        if cfg.DATASET.NAME not in DATASET_REGISTRY.registered_names():
            raise UserError(
                f"the data set {cfg.DATASET.NAME} of {self.folder} is not registered here; run the command in the "
                "checkout that has it"
            )
        cfg.DATASET.ROOT = root or cfg.DATASET.ROOT
        dataset = build_dataset(cfg)
        size = cfg.DATALOADER.TEST.BATCH_SIZE
        loader = build_data_loader(cfg, data_source=dataset.test, batch_size=size, tfm=self.transform, is_train=False)
        with torch.no_grad():
            batches = tested_features(cfg, self.student(), loader, lambda batch: (batch["img"], batch["label"]))
            features = torch.cat([features.cpu() for features, _ in batches])
        return features, list(dataset.test), getattr(dataset, "root", cfg.DATASET.ROOT)

    def predictor(self, classnames: list[str] | None = None) -> Callable[[Tensor], Tensor]:
        """Images [B, 3, S, S] as `transform` makes them -> logits, float32 [B, C], on the run's device; as in the
        toolbox's test (TRAINER.FDBPL.TEST_LOGITS included)."""
        with torch.no_grad():
            student, negative = self.student(classnames), self.negative_prompt_learner(classnames)
            return torch.no_grad()(student.predictor(self.trainer_class.scorer_of(self.cfg, student, negative)))

    @cached_property
    def transform(self) -> Callable:
        """Dassl's transform of test images: PIL image in RGB -> float32 [3, S, S]."""
        from contextlib import redirect_stdout
        from io import StringIO

        from dassl.data.transforms import build_transform

        with redirect_stdout(StringIO()):  # it says what it builds
            return build_transform(self.cfg, is_train=False)

    @property
    def _student_sha256(self) -> str | None:
        """Hash of the student's CLIP as recorded; None in the records of older versions."""
        file = self.folder / "run.json"
        return recorded_student(self._record) if file.is_file() else None

    @property
    def _record(self) -> dict:
        return read_record(self.folder / "run.json", "the record of a run", "run it again", fingerprint=str, task=str)

    # how it is read ---------------------------------------------------------------------------------------------

    @property
    def _settings(self) -> CfgNode:
        return self.trainer_class.settings(self.cfg)

    def _refuse_other_folders(self) -> None:
        found = ""
        if not self.folder.is_dir():
            found = "no such folder"
        elif not (self.folder / "config.yaml").is_file():
            found = "a folder without a config.yaml"
        elif not (self.folder / "done.json").is_file():
            found = "an unfinished one"
        elif (self.folder / "run.json").is_file():
            found = _tested_run(self._record)
        if found:
            raise UserError(
                f"expected a finished training run in {self.folder} to read, found {found}; give the folder of a "
                "training that train.py has finished"
            )

    def _read_config(self) -> CfgNode:
        """Today's defaults, then the run's values; keys of data sets that are not at hand are kept as they are."""
        from dassl.config import get_cfg_default

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
                raise UserError(f"expected keys of a configuration in {file}, found {quoted(key)}; give another run")
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

    def _leave_float16(self) -> None:
        if self._settings.PREC in ("fp16", "amp"):
            self._settings.PREC = "fp32"
        if self.cfg.TEACHER.PREC == "fp16":
            self.cfg.TEACHER.PREC = "fp32"

    def _restore(self, module: nn.Module, name: str, ignored: tuple[str, ...] = ()) -> None:
        path = checkpoint.choose(self.folder / name, None)
        checkpoint.restore(module, checkpoint.read(path)["state_dict"], path, ignored)

    def _teacher_class_features(self, classnames: list[str]) -> Tensor:
        """Unit class features of the run's teacher, float32 [C, D of the teacher]."""
        dataset = SimpleNamespace(classnames=classnames, template=self.template)
        return self.trainer_class.supervision_class.load_class_features(self.cfg, dataset, self.device)


def load_run(folder: str | Path, device: str | torch.device = "cpu") -> FinishedRun:
    """Load a finished training run.

    Raises:
        UserError: no finished training run there, or one that this code does not understand.
    """
    return FinishedRun(folder, device)


def _tested_run(record: dict) -> str:
    """Where the record is of a mere test: which training run it tested."""
    if not str(record.get("task")).startswith("test"):
        return ""
    command = [str(word) for word in record.get("command") or []]
    for flag, value in zip(command, [*command[1:], ""], strict=True):
        if flag.startswith("--model-dir"):
            return f"a test of the run in {flag.partition('=')[2] or value}"
    return "a test of another run"
