"""Validation of settings, before data or weights are read."""

from collections.abc import Iterator

from dassl.data.transforms.transforms import AVAI_CHOICES, INTERPOLATION_MODES
from dassl.evaluation import EVALUATOR_REGISTRY
from yacs.config import CfgNode

from fdbpl.errors import UserError

from .templates import DEFAULT_TEMPLATE

SAMPLERS = ("RandomSampler", "SequentialSampler")
WEIGHTS = ("W", "ALPHA", "BETA")  # keys of loss weights in addition to those that end in WEIGHT
Rule = tuple[str, bool, str]  # key, whether its value is valid, description of valid values


def require(holds: bool, key: str, expected: str, found: object) -> None:
    """Raise a UserError about the value of `key` unless `holds`; `expected` completes "it must be ..."."""
    if not holds:
        raise UserError(f"{key} is {found!r}, but it must be {expected}")


def check_settings(cfg: CfgNode) -> None:
    """Refuse values of Dassl's keys that no trainer supports.

    Raises:
        UserError: names the first such key.
    """
    sections = {"OPTIM": _optim, "INPUT": _input, "DATALOADER": _dataloader, "TRAIN": _train, "TEST": _test,
                "MODEL": _model}  # fmt: skip
    for section, rules in sections.items():
        for key, holds, expected in rules(cfg[section]):
            value = cfg[section]
            for part in key.split("."):
                value = value[part]
            require(holds, f"{section}.{key}", expected, value)
    sampler = cfg.DATALOADER.TEST.SAMPLER
    in_order = sampler == "SequentialSampler" or not cfg.TEST.SAVE_PREDICTIONS
    require(in_order, "DATALOADER.TEST.SAMPLER", "SequentialSampler with TEST.SAVE_PREDICTIONS True", sampler)


def warn_about_warmup(optim: CfgNode) -> None:
    """Print a warning if the learning rate never reaches OPTIM.LR because all epochs are warm-up epochs."""
    if 0 < optim.MAX_EPOCH <= optim.WARMUP_EPOCH:
        print(
            f"Warning: OPTIM.WARMUP_EPOCH {optim.WARMUP_EPOCH} covers all epochs (OPTIM.MAX_EPOCH {optim.MAX_EPOCH}): "
            f"the learning rate stays at its warm-up value and never reaches OPTIM.LR {optim.LR}"
        )


def check_method(settings: CfgNode, name: str) -> None:
    """Check the settings of a method, whose section is called `name`: numbers of prompts, weights, context words."""
    for key, value in settings.items():
        require(not key.startswith("N_CTX") or value >= 1, f"{name}.{key}", "at least 1", value)
        require(not (key in WEIGHTS or key.endswith("WEIGHT")) or value >= 0, f"{name}.{key}", "at least 0.0", value)
    check_context_words(settings, name, f"{name}.CTX_INIT", settings.get("CTX_INIT", ""))


def check_context_words(settings: CfgNode, name: str, key: str, words: str) -> None:
    """Refuse initial words, the value of `key`, if the section `name` asks for class-specific contexts (CSC).

    In CoOp's code words initialise one context for all classes, and CSC would be ignored.
    """
    if settings.get("CSC") and words:
        raise UserError(
            f"{name}.CSC True asks for a context for each class, but {key} {words!r:.100} starts one context for all "
            f"classes. Set {key} '' for class-specific contexts, or {name}.CSC False"
        )


def check_template(template: str, key: str) -> None:
    """Refuse a template without a placeholder for the class name; an empty one selects the data set's."""
    if template and "{}" not in template:
        raise UserError(
            f'{key} {template!r} has no {{}}, the placeholder of the class name; write for example "{DEFAULT_TEMPLATE}"'
        )


def _optim(optim: CfgNode) -> Iterator[Rule]:
    yield "MAX_EPOCH", optim.MAX_EPOCH >= 1, "at least 1"
    yield "CLIP_GRAD_NORM", optim.CLIP_GRAD_NORM >= 0, "at least 0.0 (0.0 = off)"
    for key in ("ADAM_EPS", "WARMUP_CONS_LR", "WARMUP_MIN_LR", "GAMMA"):
        yield key, optim[key] >= 0, "at least 0.0"
    yield "STEPSIZE", bool(tuple(optim.STEPSIZE)), "at least one number of epochs (-1 = all)"


def _input(image: CfgNode) -> Iterator[Rule]:
    yield "NO_TRANSFORM", not image.NO_TRANSFORM, "False, since CLIP needs images of one size"
    yield "SIZE", len(image.SIZE) == 2 and min(image.SIZE) >= 1, "the height and width in pixels"
    yield "TRANSFORMS", set(image.TRANSFORMS) <= set(AVAI_CHOICES), f"some of {', '.join(AVAI_CHOICES)}"
    yield "INTERPOLATION", image.INTERPOLATION in INTERPOLATION_MODES, f"one of {', '.join(INTERPOLATION_MODES)}"
    yield "PIXEL_MEAN", len(image.PIXEL_MEAN) == 3, "three numbers, one per colour"
    yield "PIXEL_STD", len(image.PIXEL_STD) == 3 and min(image.PIXEL_STD) > 0, "three numbers above 0.0"
    low, high = (*image.RRCROP_SCALE, 0.0, 0.0)[:2]
    yield "RRCROP_SCALE", len(image.RRCROP_SCALE) == 2 and 0 < low <= high, "a range above 0.0"
    for key in ("RGS_P", "GB_P"):
        yield key, 0 <= image[key] <= 1, "from 0.0 to 1.0"
    for key in ("CROP_PADDING", "CUTOUT_N", "CUTOUT_LEN", "GN_STD", "RANDAUGMENT_N", "COLORJITTER_B", "COLORJITTER_C",
                "COLORJITTER_S"):  # fmt: skip
        yield key, image[key] >= 0, "at least 0"
    yield "RANDAUGMENT_M", 0 <= image.RANDAUGMENT_M <= 30, "from 0 to 30"
    yield "COLORJITTER_H", 0 <= image.COLORJITTER_H <= 0.5, "from 0.0 to 0.5"
    yield "GB_K", image.GB_K >= 1 and image.GB_K % 2 == 1, "odd and at least 1"


def _dataloader(loader: CfgNode) -> Iterator[Rule]:
    yield "NUM_WORKERS", loader.NUM_WORKERS >= 0, "at least 0"
    yield "K_TRANSFORMS", loader.K_TRANSFORMS == 1, "1, since these trainers use one view of an image"
    for part in ("TRAIN_X", "TEST"):
        yield f"{part}.BATCH_SIZE", loader[part].BATCH_SIZE >= 1, "at least 1"
        yield f"{part}.SAMPLER", loader[part].SAMPLER in SAMPLERS, f"one of {', '.join(SAMPLERS)}"


def _train(train: CfgNode) -> Iterator[Rule]:
    yield "PRINT_FREQ", train.PRINT_FREQ >= 1, "at least 1 batch"
    yield "CHECKPOINT_FREQ", train.CHECKPOINT_FREQ >= 0, "at least 0 epochs (0 = only the last)"


def _test(test: CfgNode) -> Iterator[Rule]:
    kinds = EVALUATOR_REGISTRY.registered_names()
    yield "EVALUATOR", test.EVALUATOR in kinds, f"one of {', '.join(kinds)}"
    yield "SPLIT", test.SPLIT in ("val", "test"), "val or test"
    yield "FINAL_MODEL", test.FINAL_MODEL in ("last_step", "best_val"), "last_step or best_val"


def _model(model: CfgNode) -> Iterator[Rule]:
    is_run = model.BACKBONE.NAME.startswith("run:")
    yield "BACKBONE.NAME", not is_run, "a CLIP; the prompts of a run can only teach (TEACHER.NAME run:FOLDER)"
    yield "TEXT_CHUNK", model.TEXT_CHUNK >= 0, "at least 0 (0 = all prompts at once)"
    yield "INIT_WEIGHTS", not model.INIT_WEIGHTS, "empty (to continue a run: --resume RUN)"
