"""One training step: backward pass, loss scaling, gradient clipping, and refusal of NaN and infinity."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fdbpl.distributed import average_gradients
from fdbpl.errors import UserError

from . import checkpoint
from .batch import View
from .checkpointed_trainer import CheckpointedTrainer

FIRST_LOSS_SCALE = 2.0**12


class SteppingTrainer(CheckpointedTrainer):
    """Minimises the sum of what `loss_terms` returns.

    An overflow of float16 gradients skips the step of all learners and halves the loss scale. The scale is kept over
    epochs, in checkpoints and on resume.
    """

    _skipped_before = 0  # steps skipped before this epoch
    _accuracy: Tensor | None = None  # of the batch, in percent, where there are labels

    def scale_losses(self, enabled: bool) -> None:
        """Make the loss scaler, which float16 gradients need; without it a gradient that overflows is an error."""
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=FIRST_LOSS_SCALE, enabled=enabled)

    def before_epoch(self) -> None:
        self._skipped_before = self.skipped_steps
        super().before_epoch()

    def loss_terms(self, view: View) -> dict[str, Tensor]:
        """Weighted loss terms of a batch, scalars in float32; their sum is minimised."""
        raise NotImplementedError

    def compute_gradients(self, terms: dict[str, Tensor]) -> None:
        """Gradients of everything learnt, times the loss scale."""
        self.scaler.scale(torch.stack(list(terms.values())).sum()).backward()

    def forward_backward(self, batch: dict) -> dict[str, float]:
        """One step, or none where the scaled gradients overflow. The host waits for the device once, after the
        backward pass."""
        self._accuracy = None
        terms = self.loss_terms(self.parse_batch_train(batch))
        loss = torch.stack(list(terms.values())).sum()
        self.model_zero_grad()
        self.compute_gradients(terms)
        average_gradients(self._parameters())
        for optimiser in self._optims.values():
            self.scaler.unscale_(optimiser)
        norms = self._gradient_norms()
        self._clip_gradients(norms)
        accuracy = [] if self._accuracy is None else [self._accuracy.reshape(())]
        values = [loss, *terms.values(), *norms.values(), *accuracy]
        loss_value, *rest = torch.stack([value.detach() for value in values]).tolist()
        summary = {"loss": loss_value, **dict(zip(terms, rest, strict=False))}
        overflow = self._find_overflow(summary, dict(zip(norms, rest[len(terms) :], strict=False)))
        if overflow:
            self.skipped_steps += 1
        else:
            self.model_update()  # not `scaler.step`, which decides for each optimiser alone and waits for the device
        self.scaler.update()
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

    def _find_overflow(self, terms: dict[str, float], gradients: dict[str, float]) -> bool:
        """Whether a gradient is not finite and a smaller loss scale may help.

        Raises:
            UserError: a loss term is not finite, or a gradient that is not scaled up.
        """
        found = [f"{name} = {value}" for name, value in terms.items() if not np.isfinite(value)]
        if found:
            raise self._diverged(self._non_finite_tensors() + (found[1:] or found))  # the sum only where all terms are
        found = [f"{value} in the gradient of {name}" for name, value in gradients.items() if not np.isfinite(value)]
        if found and self.scaler.get_scale() <= 1:
            raise self._diverged([", ".join(found)])
        return bool(found)

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
        self._report_skipped_steps()
        self.update_lr()  # before the checkpoint, which keeps the rate of the epoch to come
        super().after_epoch()

    def _report_skipped_steps(self) -> None:
        skipped, steps = self.skipped_steps - self._skipped_before, self.num_batches
        if skipped == steps:
            raise UserError(
                f"No training step was taken in epoch {self.epoch + 1}: the float16 gradients of all {steps} batches "
                "overflowed. Use PREC bf16 or fp32, lower the loss weights, or train with more batches an epoch"
            )
        if skipped:
            print(
                f"Epoch {self.epoch + 1}: {skipped} of {steps} steps were skipped because float16 gradients "
                f"overflowed; the loss scale is now {self.scaler.get_scale():g}"
            )
