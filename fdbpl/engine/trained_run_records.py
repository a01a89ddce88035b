"""Configuration and records of a finished training run, read from its folder."""

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import torch
from dassl.config import get_cfg_default
from dassl.data.datasets import DATASET_REGISTRY
from yacs.config import CfgNode

from fdbpl.config import known_keys, merge, read_yaml, rename_keys
from fdbpl.data.registry import defaults_of_dataset
from fdbpl.devices import cpu_bf16
from fdbpl.errors import UserError, quoted
from fdbpl.io.atomic import read_record
from fdbpl.runs.folder import read_classnames, read_metrics

from .registry import TRAINERS, default_config, extend_cfg, import_trainers
from .run_compatibility import recorded_student
from .templates import template_of
from .trainer import PromptTrainer

READ = ("MODEL.", "TRAINER.", "INPUT.", "TEACHER.", "REGIONS.")  # sections of which every key must be known


class TrainedRunRecords:
    """Configuration and records in the folder of a finished training.

    Args:
        folder: the run folder.
        device: on a CPU, the configuration of a run in float16 (PREC fp16, amp), or in bfloat16 that the CPU lacks, is
            set to float32.

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
        return read_classnames(self.folder)

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

    @property
    def rejects(self) -> bool:
        """True if predictions have a probability of "none of these" (TRAINER.FDBPL.NONE_WEIGHT)."""
        return (self.folder / "none_prompt_learner").is_dir()

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

    @property
    def _student_sha256(self) -> str | None:
        """Recorded hash of the student's CLIP; None in records of older versions."""
        file = self.folder / "run.json"
        return recorded_student(self._record) if file.is_file() else None

    @property
    def _record(self) -> dict:
        return read_record(self.folder / "run.json", "the record of a run", "run it again", fingerprint=str, task=str)

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


def _describe_test(record: dict) -> str:
    """Describe a run that only tested weights; an empty string for a training."""
    if not str(record.get("task")).startswith("test"):
        return ""
    command = [str(word) for word in record.get("command") or []]
    for flag, value in zip(command, [*command[1:], ""], strict=True):
        if flag.startswith("--model-dir"):
            return f"it is a test of the run in {flag.partition('=')[2] or value}"
    return "it is a test of another run"
