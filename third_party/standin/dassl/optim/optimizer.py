"""Optimisers by name."""

import warnings

import torch
from torch import nn

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(model, optim_cfg, param_groups=None) -> torch.optim.Optimizer:
    """The optimiser that `optim_cfg` (cfg.OPTIM) describes.

    Args:
        model: a module, or an iterable of parameters or parameter groups.
        param_groups: given, it is used instead of the model's parameters.

    Raises:
        ValueError: an unknown name.
        TypeError: OPTIM.STAGED_LR with something that is not a module.
    """
    if param_groups is None:
        param_groups = _parameters(model, optim_cfg)
    elif optim_cfg.STAGED_LR:
        warnings.warn("OPTIM.STAGED_LR has no effect on given parameter groups", stacklevel=2)
    shared = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    adam = {**shared, "betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)}
    heavy_ball = {**shared, "momentum": optim_cfg.MOMENTUM}
    sgd = {**heavy_ball, "dampening": optim_cfg.SGD_DAMPNING, "nesterov": optim_cfg.SGD_NESTEROV}
    match optim_cfg.NAME:
        case "sgd":
            return torch.optim.SGD(param_groups, **sgd)
        case "adam":
            return torch.optim.Adam(param_groups, **adam)
        case "amsgrad":
            return torch.optim.Adam(param_groups, **adam, amsgrad=True)
        case "adamw":
            return torch.optim.AdamW(param_groups, **adam)
        case "radam":
            return torch.optim.RAdam(param_groups, **adam)
        case "rmsprop":
            return torch.optim.RMSprop(param_groups, **heavy_ball, alpha=optim_cfg.RMSPROP_ALPHA)
    raise ValueError(f"expected OPTIM.NAME out of {AVAI_OPTIMS}, found {optim_cfg.NAME!r}")


def _parameters(model, optim_cfg):
    if not optim_cfg.STAGED_LR:
        return model.parameters() if isinstance(model, nn.Module) else model
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a module for OPTIM.STAGED_LR, found {type(model).__name__}")
    return _staged(model, optim_cfg)


def _staged(model: nn.Module, optim_cfg) -> list[dict]:
    """Old layers learn BASE_LR_MULT times slower than NEW_LAYERS."""
    model = model.module if isinstance(model, nn.DataParallel) else model
    old, new = [], []
    for name, child in model.named_children():
        (new if name in optim_cfg.NEW_LAYERS else old).extend(child.parameters())
    return [{"params": old, "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": new}]
