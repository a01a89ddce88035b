"""Optimization steps of all trained modules, with loss scaling for float16 gradients."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from fdbpl.distributed import average_gradients

from .gradients import clip_gradients, gradient_norms, non_finite, non_finite_tensors

INITIAL_LOSS_SCALE = 2.0**12


class DivergenceError(Exception):
    """A loss or a gradient is NaN or Inf, and a smaller loss scale would not help; the message names it."""


class Optimization:
    """Joint optimization steps of all trained modules.

    If the scaled float16 gradient of one module overflows, the step of all modules is skipped and the loss scale is
    halved. At scale 1 the overflow is an error, so a training skips at most 12 steps in a row at the initial scale.

    Args:
        modules: trained modules by name. optimizers: their optimizers.
        device: of the modules.
        scales_losses: True for float16 gradients (PREC fp16, amp).
        max_norm: largest norm of the gradient of all parameters; 0.0 = no clipping.

    Attributes:
        scaler: its state is a part of checkpoints.
        skipped_steps: of the whole training.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], optimizers: Mapping[str, torch.optim.Optimizer], device: torch.device,
        scales_losses: bool, max_norm: float,
    ):  # fmt: skip
        self.modules, self.optimizers, self.max_norm = modules, optimizers, max_norm
        self.scaler = torch.amp.GradScaler(device.type, init_scale=INITIAL_LOSS_SCALE, enabled=scales_losses)
        self.skipped_steps = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Parameters of all trained modules."""
        return [value for module in self.modules.values() for value in module.parameters()]

    def step(
        self, losses: dict[str, Tensor], metrics: dict[str, Tensor], update: Callable[[], object]
    ) -> dict[str, float]:
        """Take a step from the gradients of the scaled losses, or skip it. The host waits for the device only once.

        Args:
            losses: scalars by name. metrics: further scalars to read.
            update: takes the steps of all optimizers. (`scaler.step` would decide for each optimizer separately.)

        Returns:
            Numbers by name: "loss", the sum; each loss; each metric.

        Raises:
            DivergenceError: a loss is NaN or Inf, or a gradient that is not scaled.
        """
        average_gradients(self.parameters)
        for optimizer in self.optimizers.values():
            self.scaler.unscale_(optimizer)
        norms = gradient_norms(self.modules)
        if self.max_norm:
            clip_gradients(self.parameters, norms.values(), self.max_norm)
        total = torch.stack(list(losses.values())).sum()
        on_device = [total, *losses.values(), *metrics.values(), *norms.values()]
        numbers = iter(torch.stack([value.detach().reshape(()) for value in on_device]).tolist())
        values = {name: next(numbers) for name in ("loss", *losses, *metrics)}
        norm_values = dict(zip(norms, numbers, strict=True))
        self._check_losses(values["loss"], {name: values[name] for name in losses})
        overflows = [f"the gradient of {name} is {norm_values[name]}" for name in non_finite(norm_values)]
        if overflows and self.scaler.get_scale() <= 1:
            raise DivergenceError(", ".join(overflows))
        if overflows:
            self.skipped_steps += 1
        else:
            update()
        self.scaler.update()
        return values

    def _check_losses(self, total: float, losses: dict[str, float]) -> None:
        broken = non_finite(losses) or non_finite({"loss": total})  # the sum only if each single loss is finite
        if broken:
            tensors = [f"{name} contains NaN or Inf" for name in non_finite_tensors(self.modules)]
            raise DivergenceError(", ".join(tensors + [f"{name} = {losses.get(name, total)}" for name in broken]))
