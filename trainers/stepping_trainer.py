"""One step: gradients of the summed loss terms, scaled, clipped, and refused where they are no numbers."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from yacs.config import CfgNode

from fdbpl.distributed import average_gradients
from fdbpl.errors import UserError

from . import checkpoint
from .checkpointed_trainer import CheckpointedTrainer
from .supervision.view import View

FIRST_LOSS_SCALE = 2.0**12  # amp's scaler starts here in every epoch, so that a resumed run repeats a straight one
MOST_SKIPPED = 13  # steps in a row that overflow may cost: from 2^12 the scale has then come down to 1


def extend_cfg(cfg: CfgNode) -> None:
    cfg.OPTIM.CLIP_GRAD_NORM = 0.0  # largest norm of the gradient of everything learnt; 0.0 = no clipping


class SteppingTrainer(CheckpointedTrainer):
    """Steps on what `loss_terms` gives.

    Attributes:
        mixed_precision: float16 gradients, which need a scaler.
    """

    mixed_precision = False
    _skipped = 0  # steps in a row
    _accuracy: Tensor | None = None  # of the batch, in percent, where there are labels

    def before_epoch(self) -> None:
        if self.mixed_precision:
            self.scaler = torch.amp.GradScaler(self.device.type, init_scale=FIRST_LOSS_SCALE)
        super().before_epoch()

    def loss_terms(self, view: View) -> dict[str, Tensor]:
        """Weighted loss terms of a batch, scalars in float32; their sum is minimised."""
        raise NotImplementedError

    def compute_gradients(self, terms: dict[str, Tensor]) -> None:
        """Gradients of everything learnt, times the scaler's factor where there is one."""
        self.scaled(torch.stack(list(terms.values())).sum()).backward()

    def scaled(self, loss: Tensor) -> Tensor:
        return self.scaler.scale(loss) if self.mixed_precision else loss

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """One step. The host waits for the device once, after the backward pass."""
        self._accuracy = None
        terms = self.loss_terms(self.parse_batch_train(batch))
        loss = torch.stack(list(terms.values())).sum()
        self.model_zero_grad()
        self.compute_gradients(terms)
        average_gradients(self._parameters())
        if self.mixed_precision:
            for optimiser in self._optims.values():
                self.scaler.unscale_(optimiser)
        norms = self._gradient_norms()
        self._clip_gradients(norms)
        accuracy = [] if self._accuracy is None else [self._accuracy.reshape(())]
        values = [loss, *terms.values(), *norms.values(), *accuracy]
        loss_value, *rest = torch.stack([value.detach() for value in values]).tolist()
        summary = {"loss": loss_value, **dict(zip(terms, rest, strict=False))}
        self._refuse_non_finite(summary, dict(zip(norms, rest[len(terms) :], strict=False)))
        if self.mixed_precision:
            for optimiser in self._optims.values():
                self.scaler.step(optimiser)
            self.scaler.update()
        else:
            self.model_update()
        if len(terms) == 1:
            summary = {"loss": loss_value}
        return {**summary, "acc": rest[-1]} if accuracy else summary

    def _parameters(self) -> list[nn.Parameter]:
        """Everything learnt."""
        return [value for module in self._models.values() for value in module.parameters()]

    def _gradient_norms(self) -> dict[str, Tensor]:
        """Norm of each learnt tensor's gradient."""
        learnt = self._learnt_tensors()
        return {name: value.grad.norm() for name, value in learnt.items() if getattr(value, "grad", None) is not None}

    def _learnt_tensors(self) -> dict[str, Tensor]:
        return {f"{name}.{key}": value for name, module in self._models.items()
                for key, value in module.state_dict(keep_vars=True).items() if value.is_floating_point()}  # fmt: skip

    def _clip_gradients(self, norms: dict[str, Tensor]) -> None:
        """Scale the gradients of all learners together down to OPTIM.CLIP_GRAD_NORM, as `nn.utils.clip_grad_norm_`."""
        if self.cfg.OPTIM.CLIP_GRAD_NORM:
            norm = torch.stack(list(norms.values())).norm()
            factor = (self.cfg.OPTIM.CLIP_GRAD_NORM / (norm + 1e-6)).clamp(max=1.0)
            for parameter in self._parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    def _refuse_non_finite(self, terms: dict[str, float], gradients: dict[str, float]) -> None:
        """Stop where a loss term or a gradient is no number; the scaler may skip a few steps that overflow."""
        found = [f"{name} = {value}" for name, value in terms.items() if not np.isfinite(value)]
        if found:
            raise self._diverged(self._non_finite_tensors() + (found[1:] or found))  # the sum only where all terms are
        found = [f"{value} in the gradient of {name}" for name, value in gradients.items() if not np.isfinite(value)]
        self._skipped = self._skipped + 1 if found else 0
        if found and not (self.mixed_precision and self._skipped < MOST_SKIPPED):
            steps = f" in {self._skipped} steps in a row" * self.mixed_precision
            raise self._diverged([", ".join(found) + steps])

    def _non_finite_tensors(self) -> list[str]:
        """Which learnt tensors, batch norms' statistics included, hold a number that is none. Waits for the device."""
        learnt = self._learnt_tensors()
        finite = torch.stack([value.isfinite().all() for value in learnt.values()]).tolist()
        return [f"no number in {name}" for name, fine in zip(learnt, finite, strict=True) if not fine]

    def _diverged(self, found: list[str]) -> UserError:
        kept = max(checkpoint.epochs(Path(self.output_dir) / self.get_model_names()[0]), default=None)
        return UserError(
            f"expected finite numbers in training, found {', '.join(found)} at epoch {self.epoch + 1} batch "
            f"{self.batch_idx + 1}; lower OPTIM.LR, set OPTIM.CLIP_GRAD_NORM 1.0 or use PREC fp32 "
            f"({'no checkpoint yet' if kept is None else f'epoch {kept} is kept'})"
        )

    def after_epoch(self) -> None:
        found = self._non_finite_tensors()  # by the last step, whose loss was finite: not to be kept
        if found:
            raise self._diverged(found)
        self.update_lr()  # before the checkpoint, which keeps the rate of the epoch to come
        super().after_epoch()
