"""Distributed training under torchrun: one model, one batch; all functions are no-ops in a single process.

Every process reads the same batch, encodes its shard of the images and of the classes, and gathers the results of the
others, so that each computes the whole loss as a single process would. docs/ARCHITECTURE.md derives the gradients.
"""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from fdbpl.errors import SystemFailure, UserError, out_of_memory
from fdbpl.interruption import end_with_parent

# torch's defaults (10 minutes with nccl, 30 with gloo) are too short: rank 0 may wait for another run or decode all of
# ImageNet, and ranks finish their regions at different times. Dead processes need no timeout: torchrun ends the others.
TIMEOUT = timedelta(days=7)

_local = False  # inside `local_only`


def start(use_gpu: bool) -> None:
    """Join the process group of torchrun: nccl with one GPU per process, gloo without GPUs. Only rank 0 prints.

    A process takes the GPU of its local rank. Without GPUs the processes divide the processors among themselves, unless
    OMP_NUM_THREADS is set to more than 1, torchrun's default.

    Raises:
        UserError: there are more processes than visible GPUs.
        SystemFailure: the process group cannot be formed.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()  # if torchrun is killed
    gpu = use_gpu and torch.cuda.is_available()
    number = int(os.environ.get("LOCAL_RANK", 0))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", number + 1))
    if gpu:
        there = torch.cuda.device_count()
        if here > there:
            raise UserError(
                f"{here} processes need {here} GPUs, but only {there} are visible. Start torchrun with "
                f"--nproc_per_node {there} at most, or set USE_CUDA False."
            )
        torch.cuda.set_device(number)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (stays open until the process ends)
    try:
        if gpu:
            dist.init_process_group("nccl", timeout=TIMEOUT, device_id=torch.device("cuda", number))
        else:
            dist.init_process_group("gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise SystemFailure(
            f"The processes of torchrun cannot connect to each other ({' '.join(str(error).split())[:200]}). "
            "Check --nnodes, --rdzv_endpoint and the network."
        ) from error
    if not gpu:  # otherwise gloo's threads abort a process that exits with an error
        atexit.register(stop)


def stop() -> None:
    """Leave the process group, except after an error with nccl, where it could wait for waiting processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() and not _local else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() and not _local else 0


def is_main_process() -> bool:
    """Return whether this process is rank 0, which writes files and prints. May be called before `start`."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1 or int(os.environ.get("RANK", 0)) == 0


@contextmanager
def local_only() -> Iterator[None]:
    """Return a context in which every process works on its own, as in a single process."""
    global _local
    before, _local = _local, True
    try:
        yield
    finally:
        _local = before


@contextmanager
def main_process_first() -> Iterator[None]:
    """Return a context that rank 0 completes before the others enter, e.g. to write files that they read."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def all_reduce_sum(*numbers: int) -> list[int]:
    """Sum each number over all processes."""
    if world_size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    with _peer_errors():
        dist.all_reduce(sums)
    return sums.tolist()


def barrier() -> None:
    """Wait until all processes have arrived."""
    if world_size() > 1:
        with _peer_errors():
            dist.barrier()


def broadcast_from_main(number: int) -> int:
    """Return rank 0's number in every process."""
    if world_size() == 1:
        return number
    numbers = [number]
    with _peer_errors():
        dist.broadcast_object_list(numbers)
    return numbers[0]


@contextmanager
def _peer_errors() -> Iterator[None]:
    """Report the exit of another process during a collective operation as a `SystemFailure`."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise SystemFailure(
            f"Another process exited ({' '.join(str(error).split())[:120]}). Its own message says why."
        ) from error


def shard(tensor: Tensor) -> Tensor:
    """Select this process's rows of [N, ...]: ceil(N / world size) rows, padded with copies of the last one."""
    size = -(-len(tensor) // world_size())
    if size == len(tensor):
        return tensor
    rows = torch.arange(rank() * size, (rank() + 1) * size, device=tensor.device)
    return tensor[rows.clamp_max(len(tensor) - 1)]


def gather(part: Tensor, total: int, dim: int = 0) -> Tensor:
    """Concatenate every process's result for its `shard` of `total` rows along `dim`; differentiable.

    The gradient of a process's part is the gradient of the sum of all processes' losses. All processes compute the same
    loss, so averaging a parameter's gradients over processes (`all_reduce_mean`) yields the gradient of that loss, for
    any number of gathers between the parameter and the loss.
    """
    if world_size() == 1:
        return part
    return _Gather.apply(part.transpose(0, dim))[:total].transpose(0, dim)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part: Tensor) -> Tensor:
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(world_size())]
        with _peer_errors():
            dist.all_gather(parts, part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        with _peer_errors():
            dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def all_reduce_mean(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Average tensors over all processes with a single all-reduce."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return tensors
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _peer_errors():
        dist.all_reduce(flat)
    means = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    return [mean.view_as(tensor) for mean, tensor in zip(means, tensors, strict=True)]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace each gradient by its mean over all processes."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for parameter, mean in zip(parameters, all_reduce_mean(gradients), strict=True):
        parameter.grad = mean
