"""The GPU that a process and its threads use; calls of CUDA are replaced."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from fdbpl import devices, distributed
from fdbpl.devices import choose_device, cpu_bf16, with_index
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


@pytest.mark.parametrize(
    ("text", "instructions"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n", "AMX"),
        ("processor: 0\nflags\t\t: fpu avx512f avx512_bf16\nbugs:\n", "AVX512-BF16"),
        ("flags\t\t: fpu avx2 avx512f amx_tile\n", ""),
        ("Features\t: fp asimd bf16 i8mm\n", ""),  # ARM: not measured
        (None, ""),  # macOS
    ],
)
def test_bfloat16_instructions_of_the_cpu(tmp_path, monkeypatch, text, instructions):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(devices, "CPUINFO", tmp_path / "cpuinfo")
    cpu_bf16.cache_clear()
    assert cpu_bf16() == instructions
    cpu_bf16.cache_clear()
