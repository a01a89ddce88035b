"""Arms that are this project's own trainers: `forward_backward` on what their loaders give, as `train.py` runs them."""

from collections.abc import Callable

from torch import Tensor


class TrainerStep:
    """A step of a trainer as `World.built` leaves it.

    Args:
        cut: where a teacher runs online: the regions' pixels, uint8 [B, 3, S, S], in place of Dassl's loader, which
            would draw others. None: the trainer's own loader reads the region bank.
    """

    def __init__(self, trainer, cut: Callable[[], Tensor] | None = None):
        self.trainer, self.cut = trainer, cut
        teacher = [] if cut is None else [trainer.supervision.teacher]
        self.models = [trainer.student.backbone, *teacher]

    def prepare(self) -> None:
        """Nothing: all of it is in the step."""

    def warm_up(self) -> None:
        if self.cut is None:
            self.step()
            return
        cut, self.cut = self.cut, lambda: cut()[:2]
        self.step()
        self.cut = cut

    def step(self) -> float:
        """One step; returns the loss."""
        if self.cut is None:
            batch = next(iter(self.trainer.train_loader_x))
        else:
            batch = {"img": self.trainer.student.backbone.normalize(self.cut().to(self.trainer.device))}
        self.summary = self.trainer.forward_backward(batch)
        return self.summary["loss"]
