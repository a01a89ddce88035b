"""Threads that decode images."""

import subprocess
import sys
import threading

import threadpoolctl

from fdbpl.io import threads


def test_kernels_in_a_pool_run_single_threaded():
    """In a process of its own, since the tests run torch with one thread."""
    script = """
import torch
from fdbpl.io.threads import decode_pool
torch.set_num_threads(3)
with decode_pool(2) as pool:
    print(torch.get_num_threads(), *pool.map(lambda _: torch.get_num_threads(), range(4)))
print(torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "1", "1", "1", "1", "3"]


def test_the_threads_of_a_pool_do_not_list_the_loaded_libraries(monkeypatch):
    """They would hold the lock of the dynamic linker, for which DALI waits when a pipeline is deleted."""
    listing, init = [], threadpoolctl.ThreadpoolController.__init__

    def recording(self, *arguments):
        listing.append(threading.current_thread())
        init(self, *arguments)

    monkeypatch.setattr(threadpoolctl.ThreadpoolController, "__init__", recording)
    threads._loaded_libraries.cache_clear()
    for _ in range(2):
        with threads.decode_pool(2) as pool:
            list(pool.map(str, range(4)))
    assert listing == [threading.current_thread()]
