"""The stand-in for CUDA: detection of mixed devices and dtypes and of host waits."""

from contextlib import suppress

import pytest
import torch


@pytest.mark.parametrize(
    "operation, kind",
    [
        (lambda matrix: matrix + torch.ones(2, 2), "devices"),
        (lambda matrix: torch.ones(2, 2)[torch.zeros(2, dtype=torch.long, device="cuda")], "devices"),
        (lambda matrix: matrix.half() @ matrix, "dtypes"),
        (lambda matrix: torch.nn.functional.layer_norm(matrix.half(), (2,), matrix[0]), "dtypes"),
    ],
)
def test_mixed_devices_and_dtypes_are_found(cuda, operation, kind):
    with suppress(RuntimeError):  # the CPU refuses some of them as well
        operation(torch.ones(2, 2, device="cuda"))
    assert [found for found, *_ in cuda.problems] == [kind]


@pytest.mark.parametrize(
    "wait",
    [
        lambda matrix: matrix.sum().item(),
        lambda matrix: matrix.tolist(),
        lambda matrix: matrix.cpu(),
        lambda matrix: matrix.nonzero(),
        lambda matrix: matrix[matrix > 0],
        lambda matrix: matrix[torch.zeros(2, dtype=torch.long)],
        lambda matrix: torch.tensor([1.0], device="cuda"),
        lambda matrix: torch.ones(2).to("cuda"),
        lambda matrix: torch.cuda.synchronize(),
    ],
)
def test_waits_are_counted(cuda, wait):
    matrix = torch.ones(2, 2, device="cuda")
    assert not cuda.waits
    wait(matrix)
    assert cuda.waits.total() == 1
    assert all(place.startswith("tests/gpu/test_fake_cuda.py:") for _, place in cuda.waits)


def test_values_and_gradients_equal_those_of_the_cpu(cuda):
    weight = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    found = weight.clone().to("cuda").requires_grad_()
    with torch.autocast("cuda", torch.bfloat16):
        (found @ found).float().sum().backward()
    expected = weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        (expected @ expected).float().sum().backward()
    assert found.grad.is_cuda and torch.equal(found.grad.cpu(), expected.grad)
    copy = torch.ones(2).to("cuda", non_blocking=True)
    assert copy.is_cuda and copy.device == torch.device("cuda", 0)
