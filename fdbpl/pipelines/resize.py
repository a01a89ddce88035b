"""Resizing of regions, shared by all pipelines: torch's antialiased bicubic resize of uint8 pixels."""

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_CUDA_SCALE = 40  # from a factor of about 47 on CUDA's kernel needs more shared memory than a GPU has


def resize_region(region: Tensor, size: int, flip: bool) -> Tensor:
    """Resize uint8 [h, w, 3] to uint8 [3, size, size] on the device of `region`, mirrored if `flip`.

    torch's uint8 kernel filters the rows, rounds, then filters the columns. Pillow does the same up to version 12; from
    version 13 on it may filter the columns first, which changes single pixels at sharp edges. The uint8 kernel exists
    for CPUs only; on a GPU the two passes run in float32, with deviations of at most 2.
    """
    device, region = region.device, region.permute(2, 0, 1)[None]
    height, width = region.shape[2:]
    if region.is_cuda and max(height, width) <= MAX_CUDA_SCALE * size:
        for shape in ((height, size), (size, size)):
            passed = F.interpolate(region.float(), shape, mode="bicubic", antialias=True)
            region = passed.round_().clamp_(0, 255)
        region = region.to(torch.uint8)
    else:
        region = F.interpolate(region.cpu(), (size, size), mode="bicubic", antialias=True).to(device)
    return (region.flip(-1) if flip else region)[0].contiguous()
