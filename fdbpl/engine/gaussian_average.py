"""Gaussian averaging of the prompts over epochs (GPA), from PromptSRC (Khattak et al., ICCV 2023)."""

import math

import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.errors import UserError

from .trainer import PromptTrainer


class GaussianAverage:
    """Weighted sum of the parameters over epochs 1 ... E: w_e ~ exp(-(e - mean)^2 / (2 std^2)), normalised to 1."""

    def __init__(self, epochs: int, mean: float, std: float):
        exponents = [-((epoch - mean) ** 2) / (2 * std**2) for epoch in range(1, epochs + 1)]
        density = [math.exp(exponent - max(exponents)) for exponent in exponents]  # no underflow
        self.weights = [value / sum(density) for value in density]
        self.total: dict[str, Tensor] = {}

    def add(self, epoch: int, state: dict[str, Tensor]) -> None:
        """Add the parameters at the end of `epoch`, counted from 0."""
        for name, value in state.items():
            part = self.weights[epoch] * value.detach().clone()
            self.total[name] = self.total[name] + part if name in self.total else part


class GaussianPromptAveraging(PromptTrainer):
    """Replacement of the trained prompts by their Gaussian average over epochs. Checkpoints contain the sum so far."""

    def averaging(self, cfg: CfgNode) -> tuple[float, float] | None:
        """Return mean and standard deviation of the epochs' weights, in epochs; None = no averaging."""
        return None

    def averaged_modules(self) -> dict[str, nn.Module]:
        """Return the modules to average by the prefix of their parameters in checkpoints."""
        (learner,) = self.student.trainable_modules().values()
        return {"": learner}

    def build_model(self) -> None:
        super().build_model()
        gaussian = self.averaging(self.cfg)
        self.average = GaussianAverage(self.cfg.OPTIM.MAX_EPOCH, *gaussian) if gaussian else None

    def after_epoch(self) -> None:
        if self.average is not None:
            self._add_epoch(self.average)
        super().after_epoch()

    @torch.no_grad()
    def _add_epoch(self, average: GaussianAverage) -> None:
        state = {
            prefix + name: value
            for prefix, module in self.averaged_modules().items()
            for name, value in module.state_dict(keep_vars=True).items()
            if isinstance(value, nn.Parameter) or name.endswith(("running_mean", "running_var"))  # batch norm
        }
        average.add(self.epoch, state)
        if self.epoch + 1 == self.max_epoch:
            print("Using the Gaussian average of the epochs' prompts")
            for name, value in state.items():
                value.copy_(average.total[name])

    def extra_state(self) -> dict[str, Tensor]:
        return {} if self.average is None else self.average.total

    def restore_extra_state(self, state: dict[str, Tensor]) -> None:
        if self.average is None:
            return
        if not state:
            raise UserError(
                f"The checkpoints to resume from have no average of the epochs so far, which {type(self).__name__} "
                "needs; give --resume a run of this method"
            )
        self.average.total = {name: value.to(self.device) for name, value in state.items()}
