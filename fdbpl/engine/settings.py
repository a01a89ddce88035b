"""Settings that cannot work are refused by name, before data or weights are read."""

from collections.abc import Iterator

from dassl.data.transforms.transforms import AVAI_CHOICES, INTERPOLATION_MODES
from dassl.evaluation import EVALUATOR_REGISTRY
from yacs.config import CfgNode

from fdbpl.errors import UserError

SAMPLERS = ("RandomSampler", "SequentialSampler", "RandomClassSampler", "RandomDomainSampler", "SeqDomainSampler")
SHARES = ("ALPHA", "BETA")  # of two terms
Rule = tuple[str, bool, str]  # key, whether its value can work, what is expected of it


def require(holds: bool, key: str, expected: str, found: object) -> None:
    """Refuse a setting that cannot work."""
    if not holds:
        raise UserError(f"expected {key} {expected}, found {found!r}; set another")


def check_settings(cfg: CfgNode) -> None:
    """Refuse values of Dassl's keys that no trainer can work with.

    Raises:
        UserError: names the first such key.
    """
    for section, rules in (
        ("OPTIM", _optim), ("INPUT", _input), ("DATALOADER", _dataloader), ("TRAIN", _train), ("TEST", _test),
        ("MODEL", _model),
    ):  # fmt: skip
        for key, holds, expected in rules(cfg[section]):
            value = cfg[section]
            for part in key.split("."):
                value = value[part]
            require(holds, f"{section}.{key}", expected, value)
    _check_predictions(cfg)


def _check_predictions(cfg: CfgNode) -> None:
    in_order = cfg.DATALOADER.TEST.SAMPLER == "SequentialSampler"
    expected = "of SequentialSampler with TEST.SAVE_PREDICTIONS"
    require(in_order or not cfg.TEST.SAVE_PREDICTIONS, "DATALOADER.TEST.SAMPLER", expected, cfg.DATALOADER.TEST.SAMPLER)


def warn_about_warmup(optim: CfgNode) -> None:
    """Print a warning where the learning rate never reaches OPTIM.LR because all epochs are warm-up epochs."""
    if 0 < optim.MAX_EPOCH <= optim.WARMUP_EPOCH:
        print(
            f"Warning: OPTIM.WARMUP_EPOCH {optim.WARMUP_EPOCH} covers all epochs (OPTIM.MAX_EPOCH {optim.MAX_EPOCH}): "
            f"the learning rate stays at its warm-up value and never reaches OPTIM.LR {optim.LR}"
        )


def check_method(settings: CfgNode, name: str) -> None:
    """Refuse values of a method's node, called `name`: numbers of prompts, and weights that would reward what they
    are to punish."""
    for key, value in settings.items():
        require(not key.startswith("N_CTX") or value >= 1, f"{name}.{key}", "of at least 1", value)
        weight = key == "W" or key in SHARES or key.endswith("WEIGHT")
        require(not weight or value >= 0, f"{name}.{key}", "of at least 0.0", value)
    check_context_words(settings, name, f"{name}.CTX_INIT", settings.get("CTX_INIT", ""))


def check_context_words(settings: CfgNode, name: str, key: str, words: str) -> None:
    """Refuse words to start from, the value of `key`, where the method's node, called `name`, asks for class-specific
    contexts: as in CoOp's code words start one context for all classes, and CSC would be ignored."""
    if settings.get("CSC") and words:
        raise UserError(
            f"{name}.CSC True asks for a context for each class, but {key} {words!r:.100} starts one context for all "
            f"classes. Set {key} '' for class-specific contexts, or {name}.CSC False"
        )


def _optim(optim: CfgNode) -> Iterator[Rule]:
    yield "MAX_EPOCH", optim.MAX_EPOCH >= 1, "of at least 1"
    yield "CLIP_GRAD_NORM", optim.CLIP_GRAD_NORM >= 0, "of at least 0.0 (0.0 = off)"
    for key in ("ADAM_EPS", "WARMUP_CONS_LR", "WARMUP_MIN_LR", "GAMMA"):
        yield key, optim[key] >= 0, "of at least 0.0"
    yield "STEPSIZE", bool(tuple(optim.STEPSIZE)), "to hold at least one number of epochs (-1 = all)"


def _input(image: CfgNode) -> Iterator[Rule]:
    yield "NO_TRANSFORM", not image.NO_TRANSFORM, "False: CLIP reads pixels of one size"
    yield "SIZE", len(image.SIZE) == 2 and min(image.SIZE) >= 1, "of height and width in pixels"
    yield "TRANSFORMS", set(image.TRANSFORMS) <= set(AVAI_CHOICES), f"out of {', '.join(AVAI_CHOICES)}"
    yield "INTERPOLATION", image.INTERPOLATION in INTERPOLATION_MODES, f"of {', '.join(INTERPOLATION_MODES)}"
    yield "PIXEL_MEAN", len(image.PIXEL_MEAN) == 3, "of three numbers, one a colour"
    yield "PIXEL_STD", len(image.PIXEL_STD) == 3 and min(image.PIXEL_STD) > 0, "of three numbers above 0.0"
    low, high = (*image.RRCROP_SCALE, 0.0, 0.0)[:2]
    yield "RRCROP_SCALE", len(image.RRCROP_SCALE) == 2 and 0 < low <= high, "to be a range above 0.0"
    for key in ("RGS_P", "GB_P"):
        yield key, 0 <= image[key] <= 1, "from 0.0 to 1.0"
    for key in ("CROP_PADDING", "CUTOUT_N", "CUTOUT_LEN", "GN_STD", "RANDAUGMENT_N", "COLORJITTER_B", "COLORJITTER_C",
                "COLORJITTER_S"):  # fmt: skip
        yield key, image[key] >= 0, "of at least 0"
    yield "RANDAUGMENT_M", 0 <= image.RANDAUGMENT_M <= 30, "from 0 to 30"
    yield "COLORJITTER_H", 0 <= image.COLORJITTER_H <= 0.5, "from 0.0 to 0.5"
    yield "GB_K", image.GB_K >= 1 and image.GB_K % 2 == 1, "to be odd and at least 1"


def _dataloader(loader: CfgNode) -> Iterator[Rule]:
    yield "NUM_WORKERS", loader.NUM_WORKERS >= 0, "of at least 0"
    yield "K_TRANSFORMS", loader.K_TRANSFORMS == 1, "of 1: these trainers see one view of an image"
    for part in ("TRAIN_X", "TEST"):
        yield f"{part}.BATCH_SIZE", loader[part].BATCH_SIZE >= 1, "of at least 1"
        yield f"{part}.SAMPLER", loader[part].SAMPLER in SAMPLERS, f"of {', '.join(SAMPLERS)}"


def _train(train: CfgNode) -> Iterator[Rule]:
    yield "PRINT_FREQ", train.PRINT_FREQ >= 1, "of at least 1 batch"
    yield "CHECKPOINT_FREQ", train.CHECKPOINT_FREQ >= 0, "of at least 0 epochs (0 = only the last)"


def _test(test: CfgNode) -> Iterator[Rule]:
    kinds = EVALUATOR_REGISTRY.registered_names()
    yield "EVALUATOR", test.EVALUATOR in kinds, f"of {', '.join(kinds)}"
    yield "SPLIT", test.SPLIT in ("val", "test"), "of val, test"
    yield "FINAL_MODEL", test.FINAL_MODEL in ("last_step", "best_val"), "of last_step, best_val"


def _model(model: CfgNode) -> Iterator[Rule]:
    yield "TEXT_CHUNK", model.TEXT_CHUNK >= 0, "of at least 0 (0 = all prompts at once)"
    yield "INIT_WEIGHTS", not model.INIT_WEIGHTS, "to be empty, as these trainers do not read it (--resume RUN goes on)"
