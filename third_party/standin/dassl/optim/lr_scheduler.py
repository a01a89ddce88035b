"""Learning-rate schedules with one step per epoch, and warm-up."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]


class WarmupScheduler(LRScheduler):
    """Given rates in the first epochs, then the schedule `successor` from its own beginning.

    Args:
        rates: for each warm-up epoch, the rate of each parameter group.

    The state holds the successor's state, not the object: checkpoints are plain data, and a resumed run continues with
    the successor that changes the optimizer in use.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, rates: list[list[float]]):
        self.successor, self.rates = successor, rates
        super().__init__(optimizer)  # sets the rates of epoch 0

    def get_lr(self) -> list[float]:
        if self.last_epoch < len(self.rates):
            return self.rates[self.last_epoch]
        return self.successor.get_last_lr()

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch < len(self.rates):
            super().step(epoch)
        else:
            self.successor.step(epoch)
            self._last_lr = self.successor.get_last_lr()

    def state_dict(self) -> dict:
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "_last_lr": self._last_lr,
            "successor": self.successor.state_dict(),
        }

    def load_state_dict(self, state_dict: dict) -> None:
        self.successor.load_state_dict(state_dict["successor"])
        self.__dict__.update({key: value for key, value in state_dict.items() if key != "successor"})


def build_lr_scheduler(optimizer: Optimizer, optim_cfg) -> LRScheduler:
    """Construct the schedule that `optim_cfg` (cfg.OPTIM) describes.

    As in upstream, the cosine spans MAX_EPOCH epochs. With WARMUP_RECOUNT it starts after the warm-up, and therefore
    does not reach its end.

    Raises:
        ValueError: an unknown schedule or type of warm-up.
    """
    base_rates = [group["lr"] for group in optimizer.param_groups]
    schedule = _schedule(optimizer, optim_cfg)
    epochs = optim_cfg.WARMUP_EPOCH
    if epochs <= 0:
        return schedule
    if not optim_cfg.WARMUP_RECOUNT:
        schedule.last_epoch = epochs  # as in upstream, this changes the count of epochs, not the rate
    return WarmupScheduler(optimizer, schedule, _warmup_rates(optim_cfg, epochs, base_rates))


def _schedule(optimizer: Optimizer, optim_cfg) -> LRScheduler:
    steps = list(optim_cfg.STEPSIZE) if isinstance(optim_cfg.STEPSIZE, list | tuple) else [optim_cfg.STEPSIZE]
    if optim_cfg.LR_SCHEDULER == "cosine":
        return CosineAnnealingLR(optimizer, float(optim_cfg.MAX_EPOCH))
    if optim_cfg.LR_SCHEDULER == "single_step":
        return StepLR(optimizer, steps[-1] if steps[-1] > 0 else optim_cfg.MAX_EPOCH, optim_cfg.GAMMA)
    if optim_cfg.LR_SCHEDULER == "multi_step":
        return MultiStepLR(optimizer, steps, optim_cfg.GAMMA)
    known = ", ".join(AVAI_SCHEDS)
    raise ValueError(f"There is no schedule {optim_cfg.LR_SCHEDULER!r} (OPTIM.LR_SCHEDULER). Use one of {known}")


def _warmup_rates(optim_cfg, epochs: int, base_rates: list[float]) -> list[list[float]]:
    """Compute the rate of each parameter group for each warm-up epoch."""
    groups = len(base_rates)
    if optim_cfg.WARMUP_TYPE == "constant":
        return [[optim_cfg.WARMUP_CONS_LR] * groups for _ in range(epochs)]
    if optim_cfg.WARMUP_TYPE == "linear":
        first = [optim_cfg.WARMUP_MIN_LR] * groups
        return [first, *([rate * epoch / epochs for rate in base_rates] for epoch in range(1, epochs))]
    raise ValueError(f"OPTIM.WARMUP_TYPE is {optim_cfg.WARMUP_TYPE!r}; it must be constant or linear")
