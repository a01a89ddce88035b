"""Optimizers of a configuration."""

import torch
from torch import nn

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(model, optim_cfg, param_groups=None) -> torch.optim.Optimizer:
    """Construct the optimizer that `optim_cfg` (cfg.OPTIM) describes.

    Args:
        model: a module, or an iterable of parameters or of parameter groups.
        param_groups: parameters to use instead of those of the model.

    Raises:
        ValueError: an unknown name, or OPTIM.STAGED_LR, which only upstream has.
    """
    if optim_cfg.STAGED_LR:
        raise ValueError("The stand-in for Dassl does not support OPTIM.STAGED_LR. Pass `param_groups` instead")
    if param_groups is None:
        param_groups = model.parameters() if isinstance(model, nn.Module) else model
    shared = {"lr": optim_cfg.LR, "weight_decay": optim_cfg.WEIGHT_DECAY}
    adam = {**shared, "betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2)}
    momentum = {**shared, "momentum": optim_cfg.MOMENTUM}
    sgd = {**momentum, "dampening": optim_cfg.SGD_DAMPNING, "nesterov": optim_cfg.SGD_NESTEROV}
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
            return torch.optim.RMSprop(param_groups, **momentum, alpha=optim_cfg.RMSPROP_ALPHA)
    raise ValueError(f"There is no optimizer {optim_cfg.NAME!r} (OPTIM.NAME). Use one of {', '.join(AVAI_OPTIMS)}")
