"""Running averages of the values that a training loop prints."""

from collections import defaultdict

import torch


class AverageMeter:
    """Latest value, sum, count and average of a number. With `ema` the average is exponential."""

    def __init__(self, ema: bool = False):
        self.ema = ema
        self.reset()

    def reset(self) -> None:
        self.val = self.avg = self.sum = 0.0
        self.count = 0

    def update(self, val, n: int = 1) -> None:
        self.val = val.item() if isinstance(val, torch.Tensor) else val
        self.sum += self.val * n
        self.count += n
        self.avg = 0.9 * self.avg + 0.1 * self.val if self.ema else self.sum / self.count


class MetricMeter:
    """An `AverageMeter` for each name. It prints as `loss 1.5000 (1.5000) acc 25.0000 (25.0000)`."""

    def __init__(self, delimiter: str = " "):
        self.meters: dict[str, AverageMeter] = defaultdict(AverageMeter)
        self.delimiter = delimiter

    def update(self, input_dict: dict | None) -> None:
        if input_dict is not None and not isinstance(input_dict, dict):
            raise TypeError(f"MetricMeter.update() takes a dictionary, not {type(input_dict).__name__}")
        for name, value in (input_dict or {}).items():
            self.meters[name].update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {m.val:.4f} ({m.avg:.4f})" for name, m in self.meters.items())
