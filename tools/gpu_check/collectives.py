"""The collective operations of `fdbpl.distributed` in one process: `python -m tools.gpu_check.collectives nccl`."""

import json
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from fdbpl import distributed
from fdbpl.errors import SystemFailure, cli_error_handler


def run(backend: str) -> dict:
    """Run every operation once and check its result; return the seconds of the whole and of an all-reduce.

    The functions of `fdbpl.distributed` do nothing in a single process, so their operations are called directly.

    Raises:
        SystemFailure: an operation returns other values than expected.
    """
    begin = time.perf_counter()
    device = torch.device("cuda", 0) if backend == "nccl" else torch.device("cpu")
    where = {"device_id": device} if backend == "nccl" else {}
    dist.init_process_group(
        backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=30), **where
    )
    try:
        dist.barrier()
        part = torch.arange(40.0, device=device).view(5, 8).requires_grad_()
        whole = distributed._Gather.apply(part)
        whole.square().sum().backward()
        _check("gather", torch.equal(whole, part) and torch.equal(part.grad, 2 * part.detach()))
        half = part.detach().half()
        _check("gather of fp16", torch.equal(distributed._Gather.apply(half), half))
        sums = torch.tensor([3, 4], device=device)
        dist.all_reduce(sums)
        _check("all-reduce", sums.tolist() == [3, 4])
        numbers = [7]
        dist.broadcast_object_list(numbers)
        _check("broadcast", numbers == [7])
    finally:
        distributed.stop()
    return {"operations": "barrier, gather, all-reduce, broadcast", "s": round(time.perf_counter() - begin, 2)}


def _check(operation: str, right: bool) -> None:
    if not right:
        raise SystemFailure(f"{operation} with {dist.get_backend()} returns wrong values")


if __name__ == "__main__":
    with cli_error_handler():
        print(json.dumps(run(sys.argv[1])))
