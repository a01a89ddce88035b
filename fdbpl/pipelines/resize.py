"""One definition of a region's pixels for all pipelines: torch's antialiased bicubic resize of the cut-out bytes."""

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_SCALE = 40  # that CUDA's kernel shrinks by; from about 47 on it asks for more shared memory than a GPU has


def resize_region(region: Tensor, size: int, flip: bool) -> Tensor:
    """uint8 [h, w, 3] -> uint8 [3, size, size], mirrored if `flip`; on the device of `region`.

    torch's kernel for bytes filters the rows, rounds, then filters the columns. Pillow's does the same up to version 12
    and may begin with the columns from 13 on, which moves single pixels at sharp edges; this definition stays. The
    kernel for bytes exists for CPUs only: a GPU does its two passes in float32, which deviates by at most 2.
    """
    device, region = region.device, region.permute(2, 0, 1)[None]
    height, width = region.shape[2:]
    if region.is_cuda and max(height, width) <= LARGEST_SCALE * size:
        for shape in ((height, size), (size, size)):
            passed = F.interpolate(region.float(), shape, mode="bicubic", antialias=True)
            region = passed.round_().clamp_(0, 255)
        region = region.to(torch.uint8)
    else:
        region = F.interpolate(region.cpu(), (size, size), mode="bicubic", antialias=True).to(device)
    return (region.flip(-1) if flip else region)[0].contiguous()
