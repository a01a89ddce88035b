"""Transforms of images to tensors, for training and for testing."""

import torchvision.transforms as T
from torchvision.transforms import InterpolationMode

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}
# The order of cfg.INPUT.TRANSFORMS has no effect: the steps are applied in this order.
AVAI_CHOICES = ["random_resized_crop", "random_crop", "center_crop", "random_flip", "colorjitter", "normalize"]


def build_transform(cfg, is_train: bool = True, choices=None):
    """Construct the transform of `cfg.INPUT`, or of `choices`; return None if `cfg.INPUT.NO_TRANSFORM` is set.

    Raises:
        ValueError: an unknown name in `choices`; the stand-in has a part of upstream's transforms.
    """
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        if choice not in AVAI_CHOICES:
            known = ", ".join(AVAI_CHOICES)
            raise ValueError(f"The stand-in for Dassl has no transform {choice!r}. Use some of {known}")
    print("Building transform_" + ("train" if is_train else "test"))
    steps = _train_steps(cfg.INPUT, choices) if is_train else _test_steps(cfg.INPUT)
    if "normalize" in choices:
        steps.append(T.Normalize(mean=cfg.INPUT.PIXEL_MEAN, std=cfg.INPUT.PIXEL_STD))
    for step in steps:
        print(f"+ {step}")
    return T.Compose(steps)


def _train_steps(cfg, choices) -> list:
    mode = INTERPOLATION_MODES[cfg.INTERPOLATION]
    if "random_resized_crop" in choices:
        steps = [T.RandomResizedCrop(cfg.SIZE, scale=cfg.RRCROP_SCALE, interpolation=mode)]
    else:
        steps = [T.Resize(cfg.SIZE, interpolation=mode)]
    if "random_crop" in choices:
        steps.append(T.RandomCrop(cfg.SIZE, padding=cfg.CROP_PADDING))
    if "center_crop" in choices:
        steps.append(T.CenterCrop(cfg.SIZE))
    if "random_flip" in choices:
        steps.append(T.RandomHorizontalFlip())
    if "colorjitter" in choices:
        steps.append(T.ColorJitter(cfg.COLORJITTER_B, cfg.COLORJITTER_C, cfg.COLORJITTER_S, cfg.COLORJITTER_H))
    return [*steps, T.ToTensor()]


def _test_steps(cfg) -> list:
    mode = INTERPOLATION_MODES[cfg.INTERPOLATION]
    return [T.Resize(max(cfg.SIZE), interpolation=mode), T.CenterCrop(cfg.SIZE), T.ToTensor()]
