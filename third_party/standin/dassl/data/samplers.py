"""Order in which a loader reads the items of a data set."""

from torch.utils.data.sampler import RandomSampler, Sampler, SequentialSampler

SAMPLERS = {"RandomSampler": RandomSampler, "SequentialSampler": SequentialSampler}


def build_sampler(
    sampler_type: str, cfg=None, data_source=None, batch_size: int = 32, n_domain: int = 0, n_ins: int = 16
) -> Sampler:
    """Construct the sampler `sampler_type`. Upstream's samplers of domains and classes are not part of the stand-in."""
    if sampler_type not in SAMPLERS:
        raise ValueError(f"The stand-in for Dassl has no sampler {sampler_type!r}. Use one of {', '.join(SAMPLERS)}")
    return SAMPLERS[sampler_type](data_source)
