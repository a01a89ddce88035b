"""Threads for decoding and resizing: one picture each, side by side."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")


def thread_count(workers: int) -> int:
    """`workers`; 0 stands for as many as there are processors, 8 at most."""
    return workers or min(8, os.cpu_count() or 1)


def decode_pool(count: int) -> ThreadPoolExecutor:
    """`count` threads that do not share their work with others.

    torch's kernels stay on the thread that calls them: OpenMP's teams, one for each thread, would wait for each other's
    processors. Other threads keep theirs.
    """
    return ThreadPoolExecutor(count, initializer=_stay_alone)


def prefetch(items: Iterable[Item], count: int) -> Iterator[Item]:
    """`items` in their order, made by a thread of its own, `count` of them before they are asked for."""
    iterator, end = iter(items), cast(Item, object())
    pool = decode_pool(1)
    try:
        waiting = deque(pool.submit(next, iterator, end) for _ in range(count))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, iterator, end))
            yield item
    finally:  # whoever asks no more does not wait for what was begun ahead
        pool.shutdown(cancel_futures=True)


def _stay_alone() -> None:
    torch.get_num_threads()  # torch sets OpenMP's number at a thread's first call, so it must come before ours
    threadpool_limits(1, user_api="openmp")
