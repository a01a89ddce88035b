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
    """
    name = optim_cfg.NAME
    if name not in AVAI_OPTIMS:
        raise ValueError(f"optim must be one of {AVAI_OPTIMS}, but got {name}")
    rate, decay = optim_cfg.LR, optim_cfg.WEIGHT_DECAY
    if param_groups is not None:
        if optim_cfg.STAGED_LR:
            warnings.warn(
                "staged_lr will be ignored, if you need to use staged_lr, pass param_groups=None", stacklevel=2
            )
    elif optim_cfg.STAGED_LR:
        param_groups = _staged(model, optim_cfg)
    else:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    betas = (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)
    if name == "sgd":
        return torch.optim.SGD(
            param_groups,
            lr=rate,
            momentum=optim_cfg.MOMENTUM,
            weight_decay=decay,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(
            param_groups, lr=rate, momentum=optim_cfg.MOMENTUM, weight_decay=decay, alpha=optim_cfg.RMSPROP_ALPHA
        )
    if name == "radam":
        return torch.optim.RAdam(param_groups, lr=rate, weight_decay=decay, betas=betas)
    if name == "adamw":
        return torch.optim.AdamW(param_groups, lr=rate, weight_decay=decay, betas=betas)
    return torch.optim.Adam(param_groups, lr=rate, weight_decay=decay, betas=betas, amsgrad=name == "amsgrad")


def _staged(model: nn.Module, optim_cfg) -> list[dict]:
    """Old layers learn BASE_LR_MULT times slower than NEW_LAYERS."""
    if not isinstance(model, nn.Module):
        raise TypeError("When staged_lr is True, model given to build_optimizer() must be an instance of nn.Module")
    model = model.module if isinstance(model, nn.DataParallel) else model
    new = set(optim_cfg.NEW_LAYERS)
    groups: dict[bool, list] = {False: [], True: []}
    for name, child in model.named_children():
        groups[name in new] += list(child.parameters())
    return [
        {"params": groups[False], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT},
        {"params": groups[True]},
    ]
