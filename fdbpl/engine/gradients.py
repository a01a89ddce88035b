"""Gradients of the trained tensors: norms, clipping, and the search for NaN and Inf."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def trained_tensors(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the trained parameters and floating-point buffers (batch norm statistics) by name."""
    return {f"{name}.{key}": value for name, module in modules.items()
            for key, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}  # fmt: skip


def gradient_norms(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the norm of the gradient of each trained tensor, by name."""
    gradients = {name: getattr(value, "grad", None) for name, value in trained_tensors(modules).items()}
    return {name: gradient.norm() for name, gradient in gradients.items() if gradient is not None}


def clip_gradients(parameters: Iterable[nn.Parameter], norms: Iterable[Tensor], max_norm: float) -> None:
    """Scale all gradients together to a norm of at most `max_norm`, as `nn.utils.clip_grad_norm_`.

    Args:
        norms: of each gradient, as `gradient_norms` returns them.
    """
    factor = (max_norm / (torch.stack(list(norms)).norm() + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor)


def non_finite(values: Mapping[str, float]) -> list[str]:
    """Return the names of the values that are NaN or Inf."""
    return [name for name, value in values.items() if not math.isfinite(value)]


def non_finite_tensors(modules: Mapping[str, nn.Module]) -> list[str]:
    """Return the names of the trained tensors that contain NaN or Inf. Waits for the device."""
    tensors = trained_tensors(modules)
    finite = torch.stack([value.isfinite().all() for value in tensors.values()]).tolist()
    return [name for name, fine in zip(tensors, finite, strict=True) if not fine]
