"""The GPU that a process and its threads use; calls of CUDA are replaced."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from fdbpl import distributed
from fdbpl.devices import choose_device, with_index
from fdbpl.errors import UserError


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs: the second is current in the main thread, the first in new threads, as with CUDA."""
    main = threading.get_ident()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: int(threading.get_ident() == main))


def test_devices(gpus):
    assert choose_device() == "cuda" and choose_device("cpu") == "cpu"
    assert with_index("cuda") == torch.device("cuda", 1) and with_index("cuda:0") == torch.device("cuda", 0)
    assert with_index("cpu") == torch.device("cpu")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(with_index, "cuda").result() == torch.device("cuda", 0)


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == "cpu"
    for ask in (choose_device, with_index):
        with pytest.raises(UserError):
            ask("cuda")


def test_nccl_receives_the_gpu(gpus, monkeypatch):
    for name, value in (("WORLD_SIZE", 2), ("RANK", 0), ("LOCAL_RANK", 1), ("LOCAL_WORLD_SIZE", 2)):
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    calls = []
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **settings: calls.append((backend, settings)))
    distributed.start(use_gpu=True)
    ((backend, settings),) = calls
    assert backend == "nccl" and settings["device_id"] == torch.device("cuda", 1)
