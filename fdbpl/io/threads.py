"""Thread pools for decoding and resizing images."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar, cast

import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")


def thread_count(workers: int) -> int:
    """Return `workers`; for 0, the number of processors, at most 8."""
    return workers or min(8, os.cpu_count() or 1)


def decode_pool(count: int) -> ThreadPoolExecutor:
    """Return a pool of `count` threads in which torch's kernels run single-threaded.

    Otherwise each thread would start an OpenMP team, and these would compete for the processors.
    """
    return ThreadPoolExecutor(count, initializer=_stay_alone, initargs=(_loaded_libraries(),))


def prefetch(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield `items` in order, computed in a background thread up to `count` items ahead."""
    iterator, end = iter(items), cast(Item, object())
    pool = decode_pool(1)
    try:
        waiting = deque(pool.submit(next, iterator, end) for _ in range(count))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, iterator, end))
            yield item
    finally:  # a consumer that stops early does not wait for queued items
        pool.shutdown(cancel_futures=True)


@cache
def _loaded_libraries() -> ThreadpoolController:
    """List the loaded libraries, once and not in a pool's threads.

    The list is made under the lock of the dynamic linker by a callback that needs the interpreter lock. A thread that
    holds the latter and waits for the former, as DALI does when a pipeline is deleted, would never go on.
    """
    return ThreadpoolController()


def _stay_alone(libraries: ThreadpoolController) -> None:
    torch.get_num_threads()  # torch sets the number of OpenMP threads at its first call in a thread, so call it first
    libraries.limit(limits=1, user_api="openmp")
