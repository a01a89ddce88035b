"""Top-k accuracy."""

import torch
from torch import Tensor


def compute_accuracy(output: Tensor, target: Tensor, topk: tuple[int, ...] = (1,)) -> list[Tensor]:
    """Compute, for each k, the percentage of rows whose `target` [B] is among the k largest values of `output` [B, C].

    Returns:
        A tensor of shape [1] for each k.
    """
    if isinstance(output, tuple | list):
        output = output[0]
    ranked = output.topk(min(max(topk), output.shape[1]), dim=1).indices
    hits = ranked == target.view(-1, 1)
    return [100.0 * hits[:, :k].any(dim=1).float().sum(0, keepdim=True) / torch.tensor(len(target)) for k in topk]
