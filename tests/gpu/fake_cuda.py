"""A stand-in for CUDA on machines without a GPU: tensors report the device `cuda:0`, the CPU computes their values.

Inside `FakeCuda` everything that code puts on "cuda" is a `FakeCudaTensor`, so the code takes its GPU branches. The
values have the same dtype; autograd, autocast, GradScaler and checkpointing work. The stand-in finds operations that
CUDA refuses (tensors on two devices, dtypes that do not go together) and counts those that make the host wait.

    with FakeCuda(code=ROOT) as cuda:
        trainer = build_trainer(cfg)  # cfg.USE_CUDA True
        cuda.waits.clear()
        trainer.forward_backward(batch)
    cuda.waits  # Counter {(operation, "file.py:line"): count}
    cuda.problems  # [(kind, operation, "file.py:line")]

It does not model streams, kernels and their limits, memory, CUDA's autocast lists (the CPU's are used), DALI or NCCL.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import torch
import torch._dynamo  # imported by a dispatch mode, which must happen before the patches
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
DEVICE = torch.device("cuda", 0)
WAITS = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim,
         aten.unique_consecutive, aten.bincount, aten.repeat_interleave}  # fmt: skip
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
ACROSS_DEVICES = {aten._to_copy, aten.copy_, *INDEXING}
ONE_DTYPE = {aten.native_layer_norm, aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.convolution, aten.index_copy,
             aten.index_copy_, aten.scatter, aten.index_add, aten.index_add_}  # fmt: skip


def _leaves(values: Iterable) -> Iterator:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(function: Callable, value):
    """`function` of each leaf of nested lists and tuples; torch's own pytree takes longer than the operations."""
    if isinstance(value, list | tuple):
        return type(value)([_mapped(function, part) for part in value])
    return function(value)


class FakeCudaTensor(torch.Tensor):
    """A tensor without storage that reports `cuda:0`. `values` is the CPU tensor with its values."""

    @staticmethod
    def __new__(cls, values):
        made = torch.Tensor._make_wrapper_subclass(
            cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype
        )
        made.values = values
        return made

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)
    data = property(lambda self: self.detach())

    @data.setter
    def data(self, value):
        torch.Tensor.data.__set__(self, value)
        self.values = value.values

    def to(self, *args, **kwargs):
        copy = kwargs.pop("copy", False)
        device, dtype, _, _ = torch._C._nn._parse_to(*args, **kwargs)
        found = self if dtype in (None, self.dtype) else super().to(dtype)
        if device is not None and device.type == "cpu":
            FakeCuda.active.count_wait("device to host")
            return _ToHost.apply(found)
        return found.clone() if copy and found is self else found

    def cpu(self, *_, **__):
        return self.to("cpu")

    def cuda(self, *_, **__):
        return self

    def tolist(self):
        return self.to("cpu").tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def __array__(self, *_, **__):
        return self.numpy()

    def __repr__(self, **_):
        return f"FakeCudaTensor({self.values!r})"

    def __reduce_ex__(self, protocol):  # torch.save stores the values, as map_location="cpu" reads them
        return self.values.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return FakeCuda.active.run(func, args, kwargs or {})


class _ToHost(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor):
        return tensor.values.detach().clone()

    @staticmethod
    def backward(ctx, gradient):
        return FakeCudaTensor(getattr(gradient, "values", gradient))


class _Mode(TorchDispatchMode):
    """Intercepts factory functions (`torch.zeros(..., device="cuda")`) and uploads, whose arguments are no subclass."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return FakeCuda.active.run(func, args, kwargs or {})


def _attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, **_):
    """`scaled_dot_product_attention` with sums in float32; torch's own would make its masks on the CPU."""
    if torch.is_autocast_enabled("cpu"):
        half = torch.get_autocast_dtype("cpu")
        query, key, value = (part.to(half) for part in (query, key, value))
        attn_mask = attn_mask.to(half) if attn_mask is not None and attn_mask.is_floating_point() else attn_mask
    dtypes = {part.dtype for part in (query, key, value)}
    if len(dtypes) > 1 or (attn_mask is not None and attn_mask.dtype not in dtypes | {torch.bool}):
        raise RuntimeError(f"CUDA refuses attention of {dtypes} with such a mask")
    with torch.autocast("cuda", enabled=False):
        scores = query.float() @ key.float().transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            boolean = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, float("-inf")) if boolean else scores + attn_mask
        return (scores.softmax(dim=-1) @ value.float()).to(query.dtype)


class FakeCuda:
    """Context manager. Args: code: folder whose lines are named as places.

    Attributes:
        waits: what made the host wait for the device, and where.
        problems: kind ("devices" or "dtypes"), operation and place of what CUDA refuses, each once.
    """

    active: "FakeCuda"

    def __init__(self, code: Path):
        self.code = f"{code.resolve()}/"
        self.waits: Counter = Counter()
        self.problems: list[tuple[str, str, str]] = []

    def __enter__(self) -> "FakeCuda":
        FakeCuda.active, self._stack = self, ExitStack()
        torch._C._ensureCUDADeviceGuardSet()  # one that does nothing, where there is no driver
        cuda, submit, loader_init = torch.cuda, ThreadPoolExecutor.submit, torch.utils.data.DataLoader.__init__
        tensor, to, autocast = torch.tensor, torch.Tensor.to, torch.autocast
        compatible = torch._has_compatible_shallow_copy_type

        def submit_in_mode(pool, function, *args, **kwargs):  # each thread has modes of its own
            def work():
                with _Mode():
                    return function(*args, **kwargs)

            return submit(pool, work)

        def init_unpinned(loader, *args, **kwargs):
            loader_init(loader, *args, **{**kwargs, "pin_memory": False})

        def swappable(one, other):  # `module.to("cuda")` replaces a parameter instead of its data
            return isinstance(one, FakeCudaTensor) == isinstance(other, FakeCudaTensor) and compatible(one, other)

        def cpu_autocast(device, dtype=None, enabled=True, cache_enabled=None):
            return autocast("cpu", dtype or torch.float16, enabled, cache_enabled)

        def indexed(device):  # "cuda" alone would ask the driver which one
            return DEVICE if isinstance(device, str | torch.device) and torch.device(device).type == "cuda" else device

        def to_indexed(values, *args, **kwargs):
            if "device" in kwargs:
                kwargs["device"] = indexed(kwargs["device"])
            return to(values, *map(indexed, args), **kwargs)

        def tensor_uploaded(values, *, device=None, **kwargs):
            made = tensor(values, **kwargs)
            return made if device is None else made.to(device)

        for owner, name, value in (
            (cuda, "is_available", lambda: True), (cuda, "is_initialized", lambda: True),
            (cuda, "_lazy_init", lambda: None), (cuda, "device_count", lambda: 1), (cuda, "current_device", lambda: 0),
            (cuda, "set_device", lambda device: None), (cuda, "is_bf16_supported", lambda *_: True),
            (cuda, "manual_seed_all", lambda seed: None), (cuda, "get_device_name", lambda *_: "fake GPU"),
            (cuda, "synchronize", lambda *_: self.count_wait("synchronize")),
            (cuda, "max_memory_allocated", lambda *_: 0), (cuda, "memory_allocated", lambda *_: 0),
            (cuda, "reset_peak_memory_stats", lambda *_: None), (cuda, "empty_cache", lambda: None),
            (torch, "autocast", cpu_autocast), (torch, "_has_compatible_shallow_copy_type", swappable),
            (torch, "tensor", tensor_uploaded), (torch.Tensor, "to", to_indexed),
            (ThreadPoolExecutor, "submit", submit_in_mode), (torch.utils.data.DataLoader, "__init__", init_unpinned),
            (F, "scaled_dot_product_attention", _attention),
        ):  # fmt: skip
            self._stack.enter_context(patch.object(owner, name, value))
        self._stack.enter_context(_Mode())
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def run(self, func, args, kwargs):
        """One operation, on the CPU."""
        flat = [*_leaves(args), *_leaves(kwargs.values())]
        fakes = [value for value in flat if isinstance(value, FakeCudaTensor)]
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        to_device = device is not None and device.type == "cuda"
        if func is aten.zeros.default and torch._C._current_graph_task_id() != -1:  # autograd's own, of unused outputs
            to_device, device = True, DEVICE
        if not fakes and not to_device:
            return func(*args, **kwargs)
        self._inspect(func, flat, fakes, kwargs, to_device)
        originals = {id(value.values): value for value in fakes}
        args = _mapped(lambda value: value.values if isinstance(value, FakeCudaTensor) else value, args)
        kwargs = {key: getattr(value, "values", value) for key, value in kwargs.items()}
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        kwargs.pop("pin_memory", None)

        def wrap(value):
            if not isinstance(value, torch.Tensor):
                return value
            return originals[id(value)] if id(value) in originals else FakeCudaTensor(value)

        return _mapped(wrap, func(*args, **kwargs))

    def _inspect(self, func, flat, fakes, kwargs, to_device) -> None:
        """Count waits and note what CUDA refuses."""
        operation, name = func.overloadpacket, str(func)
        tensors = [value for value in flat if isinstance(value, torch.Tensor)]
        on_host = [value for value in tensors if not isinstance(value, FakeCudaTensor)]
        if operation in WAITS:
            self.count_wait(name)
        if operation is aten._to_copy and to_device and on_host and not kwargs.get("non_blocking"):
            self.count_wait("blocking upload")
        if operation is aten.copy_ and fakes and on_host and not any(value is True for value in flat):
            self.count_wait("blocking copy_")
        if operation in INDEXING:
            if any(value.dtype in (torch.bool, torch.uint8) for value in fakes[1:]):
                self.count_wait("index by mask")
            if any(value.dim() for value in on_host):
                self.count_wait("index on the host")
        mixed = bool(fakes) and any(value.dim() for value in on_host)
        into_host = operation in INDEXING and not isinstance(tensors[0], FakeCudaTensor)
        if mixed and operation not in ACROSS_DEVICES or fakes and into_host:
            self._note("devices", name, tensors)
        if operation in ONE_DTYPE and len({value.dtype for value in tensors if value.is_floating_point()}) > 1:
            self._note("dtypes", name, tensors)

    def count_wait(self, what: str) -> None:
        self.waits[what, self._place()] += 1

    def _note(self, kind: str, name: str, tensors: list) -> None:
        problem = kind, f"{name} of {[f'{value.dtype} {value.device}' for value in tensors]}", self._place()
        if problem not in self.problems:
            self.problems.append(problem)

    def _place(self) -> str:
        """The innermost line below `code` on the call stack."""
        frame = sys._getframe()
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith(self.code) and "site-packages" not in file and file != __file__:
                return f"{file.removeprefix(self.code)}:{frame.f_lineno}"
            frame = frame.f_back
        return "elsewhere"
