"""Learning-rate schedules, stepped once an epoch, with an optional warm-up in front."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]


class WarmupScheduler(LRScheduler):
    """Fixed rates in the first epochs, one number an epoch, then `successor` from its own beginning.

    The successor's state is kept as a plain dictionary, so that checkpoints hold no objects and a resumed run goes on
    with the live successor.
    """

    def __init__(self, optimizer: Optimizer, successor: LRScheduler, rates: list[list[float]]):
        self.successor, self.rates = successor, rates
        super().__init__(optimizer)  # sets epoch 0

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
    """The schedule that `optim_cfg` (cfg.OPTIM) describes.

    The cosine spans MAX_EPOCH epochs; with a warm-up in front and WARMUP_RECOUNT it starts after the warm-up and does
    not reach its end, as upstream.

    Raises:
        ValueError: an unknown schedule or warm-up, or steps that do not fit the schedule.
    """
    base_rates = [group["lr"] for group in optimizer.param_groups]
    schedule = _schedule(optimizer, optim_cfg)
    epochs = optim_cfg.WARMUP_EPOCH
    if epochs <= 0:
        return schedule
    if not optim_cfg.WARMUP_RECOUNT:
        schedule.last_epoch = epochs  # upstream: only the count moves, not the rate
    return WarmupScheduler(optimizer, schedule, _warmup_rates(optim_cfg, epochs, base_rates))


def _schedule(optimizer: Optimizer, optim_cfg) -> LRScheduler:
    steps = list(optim_cfg.STEPSIZE) if isinstance(optim_cfg.STEPSIZE, list | tuple) else [optim_cfg.STEPSIZE]
    if not all(isinstance(step, int) for step in steps):
        raise ValueError(f"expected whole numbers in OPTIM.STEPSIZE, found {optim_cfg.STEPSIZE}")
    if optim_cfg.LR_SCHEDULER == "cosine":
        return CosineAnnealingLR(optimizer, float(optim_cfg.MAX_EPOCH))
    if optim_cfg.LR_SCHEDULER == "single_step":
        return StepLR(optimizer, steps[-1] if steps[-1] > 0 else optim_cfg.MAX_EPOCH, optim_cfg.GAMMA)
    if optim_cfg.LR_SCHEDULER == "multi_step":
        return MultiStepLR(optimizer, steps, optim_cfg.GAMMA)
    raise ValueError(f"expected OPTIM.LR_SCHEDULER out of {AVAI_SCHEDS}, found {optim_cfg.LR_SCHEDULER!r}")


def _warmup_rates(optim_cfg, epochs: int, base_rates: list[float]) -> list[list[float]]:
    """A list of rates (one a parameter group) for each epoch of the warm-up."""
    groups = len(base_rates)
    if optim_cfg.WARMUP_TYPE == "constant":
        return [[optim_cfg.WARMUP_CONS_LR] * groups for _ in range(epochs)]
    if optim_cfg.WARMUP_TYPE == "linear":
        first = [optim_cfg.WARMUP_MIN_LR] * groups
        return [first, *([rate * epoch / epochs for rate in base_rates] for epoch in range(1, epochs))]
    raise ValueError(f"expected OPTIM.WARMUP_TYPE constant or linear, found {optim_cfg.WARMUP_TYPE!r}")
