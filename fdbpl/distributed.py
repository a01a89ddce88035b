"""Several processes (torchrun) that train one model on one batch; each function does nothing in a single process.

Every process reads the same batch, runs the towers on its share of the images and of the classes, and is given what the
others made of theirs; so each knows the whole loss, as one process would. docs/ARCHITECTURE.md derives the gradients.
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

# torch's own limits (10 minutes with nccl, 30 with gloo) are shorter than what is rightly waited for: the first process
# waits for another call's run, or decodes all of ImageNet; one has labelled its regions long before the others. A dead
# process needs no limit: torchrun ends the others, and its connections close.
LONGEST_WAIT = timedelta(days=7)

_paused = False


def start(use_gpu: bool) -> None:
    """Join the processes that torchrun started: nccl with a GPU each, gloo without. Only the first prints from now on.

    The r-th process of a machine takes its r-th visible GPU. Without GPUs the processors are shared out, unless
    OMP_NUM_THREADS says otherwise: torchrun sets it to 1 by itself, which would leave most of them idle.

    Raises:
        UserError: more processes than visible GPUs.
        SystemFailure: the processes do not find each other.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()  # torchrun, which may be killed
    gpu = use_gpu and torch.cuda.is_available()
    number = int(os.environ.get("LOCAL_RANK", 0))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", number + 1))
    if gpu:
        there = torch.cuda.device_count()
        if here > there:
            raise UserError(
                f"expected a GPU for each process, found {here} processes and {there} visible GPUs; start torchrun "
                f"with --nproc_per_node {there} at most, or set USE_CUDA False"
            )
        torch.cuda.set_device(number)
    elif os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // here))
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (to the end of the process)
    try:
        if gpu:
            dist.init_process_group("nccl", timeout=LONGEST_WAIT, device_id=torch.device("cuda", number))
        else:
            dist.init_process_group("gloo", timeout=LONGEST_WAIT)
    except (RuntimeError, ValueError) as error:
        raise SystemFailure(
            f"expected the processes of torchrun to find each other, found {' '.join(str(error).split())[:200]}; "
            "check --nnodes, --rdzv_endpoint and the network"
        ) from error
    if not gpu:  # gloo's threads abort a process that leaves without, e.g. with an error
        atexit.register(stop)


def stop() -> None:
    """Part from the others. With nccl not on the way out of an error: its end may wait for them, and they for this."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() and not _paused else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() and not _paused else 0


def is_main_process() -> bool:
    """Whether this process writes files and speaks. Known before `start`."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1 or int(os.environ.get("RANK", 0)) == 0


@contextmanager
def local_only() -> Iterator[None]:
    """Work that each process does by itself: shares are wholes inside."""
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


@contextmanager
def main_process_first() -> Iterator[None]:
    """The first process goes through the block before the others do: it makes files that they read."""
    if not is_main_process():
        barrier()
    yield
    if is_main_process():
        barrier()


def all_reduce_sum(*numbers: int) -> list[int]:
    """The sums of what each process counted."""
    if world_size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, device="cuda" if dist.get_backend() == "nccl" else "cpu")
    with _all_go_on():
        dist.all_reduce(sums)
    return sums.tolist()


def barrier() -> None:
    """Wait until all are here."""
    if world_size() > 1:
        with _all_go_on():
            dist.barrier()


def broadcast_from_main(number: int) -> int:
    """The first process's number, in all."""
    if world_size() == 1:
        return number
    told = [number]
    with _all_go_on():
        dist.broadcast_object_list(told)
    return told[0]


@contextmanager
def _all_go_on() -> Iterator[None]:
    """Around what needs everybody: the end of another process is a sentence here, beside the one it ended with."""
    try:
        yield
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise SystemFailure(
            f"expected all processes to go on, found another one gone ({' '.join(str(error).split())[:120]}); "
            "its own message says why"
        ) from error


def shard(tensor: Tensor) -> Tensor:
    """This process's rows of [N, ...]: ceil(N / processes) of them, the last row repeated where there are too few."""
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
        with _all_go_on():
            dist.all_gather(parts, part)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        with _all_go_on():
            dist.all_reduce(gradient)
        return gradient.chunk(world_size())[rank()]


def all_reduce_mean(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Means over all processes, in one message."""
    tensors = list(tensors)
    if world_size() == 1 or not tensors:
        return tensors
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _all_go_on():
        dist.all_reduce(flat)
    means = (flat / world_size()).split([tensor.numel() for tensor in tensors])
    return [mean.view_as(tensor) for mean, tensor in zip(means, tensors, strict=True)]


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Put the mean over all processes in place of each gradient."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for parameter, mean in zip(parameters, all_reduce_mean(gradients), strict=True):
        parameter.grad = mean
