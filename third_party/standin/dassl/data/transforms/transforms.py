"""Image -> tensor, for training and for testing, from torchvision's transforms."""

import torch
import torchvision.transforms as T
from torchvision.transforms import InterpolationMode

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


class GaussianNoise:
    """Add noise to half of the images."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5):
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        if torch.rand(1).item() > self.p:
            return image
        return image + torch.randn_like(image) * self.std + self.mean


class Cutout:
    """Set `n_holes` random squares of side `length` to zero."""

    def __init__(self, n_holes: int = 1, length: int = 16):
        self.n_holes, self.length = n_holes, length

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        _, height, width = image.shape
        image = image.clone()
        for _ in range(self.n_holes):
            y, x = torch.randint(height, (1,)).item(), torch.randint(width, (1,)).item()
            half = self.length // 2
            image[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return image


# where each transform stands does not depend on the order of cfg.INPUT.TRANSFORMS
BEFORE_TENSOR = {
    "random_flip": lambda cfg, _: T.RandomHorizontalFlip(),
    "colorjitter": lambda cfg, _: T.ColorJitter(
        brightness=cfg.COLORJITTER_B, contrast=cfg.COLORJITTER_C, saturation=cfg.COLORJITTER_S, hue=cfg.COLORJITTER_H
    ),
    "randomgrayscale": lambda cfg, _: T.RandomGrayscale(p=cfg.RGS_P),
    "gaussian_blur": lambda cfg, _: T.RandomApply([T.GaussianBlur(cfg.GB_K)], p=cfg.GB_P),
    "randaugment": lambda cfg, mode: T.RandAugment(cfg.RANDAUGMENT_N, cfg.RANDAUGMENT_M, interpolation=mode),
}
AFTER_TENSOR = {
    "cutout": lambda cfg: Cutout(cfg.CUTOUT_N, cfg.CUTOUT_LEN),
    "normalize": lambda cfg: T.Normalize(mean=cfg.PIXEL_MEAN, std=cfg.PIXEL_STD),
    "gaussian_noise": lambda cfg: GaussianNoise(cfg.GN_MEAN, cfg.GN_STD),
    "instance_norm": lambda cfg: (
        lambda image: (image - image.mean((1, 2), keepdim=True)) / (image.std((1, 2), keepdim=True) + 1e-8)
    ),
}
CROPS = ["random_resized_crop", "random_crop", "center_crop"]
AVAI_CHOICES = [*CROPS, *BEFORE_TENSOR, *AFTER_TENSOR]


def build_transform(cfg, is_train: bool = True, choices=None):
    """The transform of cfg.INPUT (or of `choices`), for training or for testing; None under INPUT.NO_TRANSFORM."""
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = cfg.INPUT.TRANSFORMS if choices is None else choices
    for choice in choices:
        if choice not in AVAI_CHOICES:
            raise ValueError(f"expected INPUT.TRANSFORMS out of {AVAI_CHOICES}, found {choice!r}")
    print("Building transform_" + ("train" if is_train else "test"))
    steps = _train_steps(cfg.INPUT, choices) if is_train else _test_steps(cfg.INPUT, choices)
    for step in steps:
        print(f"+ {step}")
    return T.Compose(steps)


def build_unaugmented(cfg) -> T.Compose:
    """The whole image at cfg.INPUT.SIZE, normalised if cfg.INPUT.TRANSFORMS says so."""
    mode = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
    normalize = [AFTER_TENSOR["normalize"](cfg.INPUT)] if "normalize" in cfg.INPUT.TRANSFORMS else []
    return T.Compose([T.Resize(cfg.INPUT.SIZE, interpolation=mode), T.ToTensor(), *normalize])


def _train_steps(cfg, choices) -> list:
    mode = INTERPOLATION_MODES[cfg.INTERPOLATION]
    steps = []
    if "random_resized_crop" in choices:
        steps.append(T.RandomResizedCrop(cfg.SIZE, scale=cfg.RRCROP_SCALE, interpolation=mode))
    else:
        steps.append(T.Resize(cfg.SIZE, interpolation=mode))
    if "random_crop" in choices:
        steps.append(T.RandomCrop(cfg.SIZE, padding=cfg.CROP_PADDING))
    if "center_crop" in choices:
        steps.append(T.CenterCrop(cfg.SIZE))
    steps += [build(cfg, mode) for name, build in BEFORE_TENSOR.items() if name in choices]
    return [*steps, T.ToTensor(), *(build(cfg) for name, build in AFTER_TENSOR.items() if name in choices)]


def _test_steps(cfg, choices) -> list:
    mode = INTERPOLATION_MODES[cfg.INTERPOLATION]
    steps = [T.Resize(max(cfg.SIZE), interpolation=mode), T.CenterCrop(cfg.SIZE), T.ToTensor()]
    return steps + [AFTER_TENSOR[name](cfg) for name in ("normalize", "instance_norm") if name in choices]
