"""Seeds of the random generators."""

import random
import secrets

import numpy as np
import torch

from fdbpl.distributed import broadcast_from_main, world_size


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed the generators of Python, numpy and torch from (seed, epoch).

    A negative seed leaves them random; with several processes the first one draws a seed for all, since they must read
    the same batches. Dassl's loader draws its order and its workers' seeds from torch's generator at an epoch's start.
    """
    if seed < 0 and world_size() == 1:
        return
    if seed < 0:
        seed = broadcast_from_main(secrets.randbits(63))
    python, numpy, torch_seed = np.random.SeedSequence([seed, epoch]).generate_state(3).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.default_generator.manual_seed(torch_seed)  # torch.manual_seed takes 0.5 ms for absent devices
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(torch_seed)
