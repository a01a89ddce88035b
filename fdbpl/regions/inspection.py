"""Summary of a region bank: metadata, content, and how informative its regions are."""

from pathlib import Path

import numpy as np
import torch

from fdbpl.regions.bank import RegionBank
from fdbpl.regions.lookup import RegionLookup
from fdbpl.regions.metadata import DEFAULTS


def inspect(folder: Path) -> None:
    """Print the metadata and the content of a bank, and a histogram of its regions' entropies."""
    bank = RegionBank.open(folder)
    shards = bank.shards()
    regions = sum(len(shard.images) * shard.count for shard in shards)
    images = sorted({image for shard in shards for image in shard.images})
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}")
    for key, value in {**DEFAULTS, **bank.identity}.items():
        print(f"  {key:<16} {value}")
    students = sorted(path.name for path in (folder / "features").glob("*"))
    print(
        f"  content          {regions} regions of {len(images)} images in {len(shards)} files, {size / 2**20:.1f} MiB"
    )
    print(f"  per region       {size / max(regions, 1):.0f} bytes; student features: {', '.join(students) or 'none'}")
    decoders = sorted({shard.decoder or "not recorded" for shard in shards})
    print(f"  decoded by       {', '.join(decoders) or 'nothing yet'}")
    lists = bank.prompt_lists()
    print(f"  prompt lists     {', '.join(f'{len(prompts)} ({prompts[0]!r} ...)' for prompts in lists) or 'none'}")
    if not lists or not images:
        return
    per_image = min(shard.first + shard.count for shard in shards)
    lookup = RegionLookup(folder, images, per_image, lists[0])
    grid = np.stack(np.meshgrid(np.arange(len(images)), np.arange(per_image), indexing="ij"), -1).reshape(-1, 2)
    entropy = torch.cat(
        [lookup.entropy(part[:, 0], part[:, 1]) for part in np.array_split(grid, len(grid) // 4096 + 1)]
    )
    print(informativeness(entropy.numpy(), len(lists[0])))


def informativeness(entropy: np.ndarray, classes: int) -> str:
    """Return quantiles and a histogram of the regions' normalised entropies, float32 [N] in [0, 1]."""
    quantiles = " ".join(f"{value:.2f}" for value in np.quantile(entropy, [0.05, 0.25, 0.5, 0.75, 0.95]))
    lines = [f"  entropy / ln {classes}: quantiles 5 25 50 75 95 %: {quantiles}"]
    for low, count in enumerate(np.histogram(entropy, 10, (0, 1))[0].tolist()):
        share = count / len(entropy)
        lines.append(f"  {low / 10:.1f}-{low / 10 + 0.1:.1f} {'#' * round(60 * share):<60} {100 * share:5.1f} %")
    return "\n".join(lines)
