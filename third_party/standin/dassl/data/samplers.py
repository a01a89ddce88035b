"""In which order the items of a data set are seen."""

import copy
import random
from collections import defaultdict

import numpy as np
from torch.utils.data.sampler import RandomSampler, Sampler, SequentialSampler


class RandomDomainSampler(Sampler):
    """Batches of `n_domain` random domains, equally many images of each."""

    def __init__(self, data_source, batch_size: int, n_domain: int):
        self.indices = defaultdict(list)
        for index, item in enumerate(data_source):
            self.indices[item.domain].append(index)
        self.domains = list(self.indices)
        self.n_domain = n_domain if n_domain > 0 else len(self.domains)
        if batch_size % self.n_domain:
            raise ValueError(f"expected a batch size that {self.n_domain} domains divide, found {batch_size}")
        self.n_img_per_domain = batch_size // self.n_domain
        self.length = len(list(iter(self)))

    def _select(self) -> list:
        return random.sample(self.domains, self.n_domain)

    def __iter__(self):
        left, chosen = copy.deepcopy(self.indices), []
        while True:
            for domain in self._select():
                picked = random.sample(left[domain], self.n_img_per_domain) if (
                    len(left[domain]) >= self.n_img_per_domain
                ) else []  # fmt: skip
                if not picked:
                    return iter(chosen)
                chosen += picked
                left[domain] = [index for index in left[domain] if index not in set(picked)]

    def __len__(self) -> int:
        return self.length


class SeqDomainSampler(RandomDomainSampler):
    """Batches of all domains in order, equally many images of each."""

    def __init__(self, data_source, batch_size: int):
        super().__init__(data_source, batch_size, -1)

    def _select(self) -> list:
        return self.domains


class RandomClassSampler(Sampler):
    """Batches of batch_size / n_ins random classes, `n_ins` images of each; every class is used up in turn."""

    def __init__(self, data_source, batch_size: int, n_ins: int):
        if batch_size < n_ins:
            raise ValueError(f"expected a batch size of at least {n_ins} (N_INS), found {batch_size}")
        self.n_ins, self.ncls_per_batch = n_ins, batch_size // n_ins
        self.index_dic = defaultdict(list)
        for index, item in enumerate(data_source):
            self.index_dic[item.label].append(index)
        if len(self.index_dic) < self.ncls_per_batch:
            raise ValueError(f"expected at least {self.ncls_per_batch} classes, found {len(self.index_dic)}")
        self.length = len(list(iter(self)))

    def __iter__(self):
        batches = {}
        for label, indices in self.index_dic.items():
            pool = list(indices)
            if len(pool) < self.n_ins:
                pool = list(np.random.choice(pool, size=self.n_ins, replace=True))
            random.shuffle(pool)
            batches[label] = [pool[i : i + self.n_ins] for i in range(0, len(pool) - self.n_ins + 1, self.n_ins)]
        chosen = []
        while len(batches) >= self.ncls_per_batch:
            for label in random.sample(list(batches), self.ncls_per_batch):
                chosen += batches[label].pop(0)
                if not batches[label]:
                    del batches[label]
        return iter(int(index) for index in chosen)

    def __len__(self) -> int:
        return self.length


def build_sampler(
    sampler_type: str, cfg=None, data_source=None, batch_size: int = 32, n_domain: int = 0, n_ins: int = 16
):
    """The sampler called `sampler_type` over `data_source`."""
    builders = {
        "RandomSampler": lambda: RandomSampler(data_source),
        "SequentialSampler": lambda: SequentialSampler(data_source),
        "RandomDomainSampler": lambda: RandomDomainSampler(data_source, batch_size, n_domain),
        "SeqDomainSampler": lambda: SeqDomainSampler(data_source, batch_size),
        "RandomClassSampler": lambda: RandomClassSampler(data_source, batch_size, n_ins),
    }
    if sampler_type not in builders:
        raise ValueError(f"expected a sampler out of {list(builders)}, found {sampler_type!r}")
    return builders[sampler_type]()
