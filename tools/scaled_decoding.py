"""Speed and pixel error of DCT-scaled decoding (libjpeg's 1/2 and 1/4) of large photographs."""

import statistics
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fdbpl.crops import pixel_boxes, sample_crops
from fdbpl.pipelines.resize import resize_region


def enlarge(files: list[Path], folder: Path, side: int) -> None:
    """Write copies of JPEG files whose longer side is `side` pixels."""
    for number, file in enumerate(files):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        factor = side / max(image.size)
        size = round(image.width * factor), round(image.height * factor)
        image.resize(size, Image.Resampling.LANCZOS).save(folder / f"{number}.jpg", quality=92)


def measure_scaled(folder: Path, size: int) -> None:
    """Print decoding times, and pixel differences of regions that are at least twice the output size after scaling."""
    seconds: dict[int, list[float]] = {1: [], 2: [], 4: []}
    worst: dict[int, list[float]] = {2: [], 4: []}
    means: dict[int, list[float]] = {2: [], 4: []}
    for file in sorted(folder.glob("*.jpg")):
        whole, full = None, None
        for scale in seconds:
            with Image.open(file) as opened:
                full = full or (opened.height, opened.width)
                if scale > 1:
                    opened.draft("RGB", (full[1] // scale, full[0] // scale))
                begin = time.perf_counter()
                pixels = torch.from_numpy(np.asarray(opened.convert("RGB")).copy())
                seconds[scale].append(time.perf_counter() - begin)
            whole = pixels if whole is None else whole
            for box in sample_crops(1, file.name, 0, 20, full, (0.08, 0.936), (3 / 4, 4 / 3), 0.0).boxes:
                if scale == 1:
                    break
                top, left, height, width = pixel_boxes(box[None], full)[0]
                if min(height, width) < 2 * scale * size:
                    continue
                exact = resize_region(whole[top : top + height, left : left + width], size, False).float()
                top, left, height, width = pixel_boxes(box[None], pixels.shape[:2])[0]
                found = resize_region(pixels[top : top + height, left : left + width], size, False).float()
                worst[scale].append((found - exact).abs().max().item())
                means[scale].append((found - exact).abs().mean().item())
    for scale, times in seconds.items():
        line = f"  decoded at 1/{scale}: {1000 * statistics.median(times):.0f} ms per image (median)"
        if worst.get(scale):
            line += (
                f"; {len(worst[scale])} regions differ by {statistics.mean(means[scale]):.1f}/255 on average, at most "
                f"{statistics.median(worst[scale]):.0f}/255 (median region), {max(worst[scale]):.0f}/255 (worst)"
            )
        print(line)
