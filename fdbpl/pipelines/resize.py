"""One definition of a region's pixels for all pipelines: torch's antialiased bicubic resize of the cut-out bytes."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_region(region: Tensor, size: int, flip: bool) -> Tensor:
    """uint8 [h, w, 3] -> uint8 [3, size, size], mirrored if `flip`.

    torch's kernel for bytes filters the rows, rounds, then filters the columns. Pillow's does the same up to version 12
    and may begin with the columns from 13 on, which moves single pixels at sharp edges; this definition stays.
    """
    region = region.permute(2, 0, 1)[None]
    if region.is_cuda:  # the bytes kernel exists for CPUs only
        region = F.interpolate(region.float(), (size, size), mode="bicubic", antialias=True)
        region = region.round_().clamp_(0, 255).to(torch.uint8)
    else:
        region = F.interpolate(region, (size, size), mode="bicubic", antialias=True)
    return (region.flip(-1) if flip else region)[0].contiguous()
