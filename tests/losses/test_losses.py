"""Losses compared with closed forms and loops in plain Python, and properties that hold for all logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdbpl.losses import (
    cascaded_difference,
    coupling,
    entropy,
    entropy_weight,
    kl_forward,
    kl_reverse,
    negative_loss,
    none_loss,
    rank_weight,
    symmetric_kl,
)


def logits(rows: int, classes: int, seed: int = 0, scale: float = 3.0, dtype=torch.float64) -> torch.Tensor:
    return scale * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def plain_kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def plain_pcd(x, d, y, w, margin) -> float:
    """Compute the cascaded difference pair by pair, as defined."""
    total, pairs = 0.0, 0
    for i in range(len(y)):
        for j in range(len(y)):
            if y[i] != y[j]:
                second_order = d[y[i]] - d[y[j]]
                gap = float((x[i] - x[j]) @ second_order)
                total += float(w[i] * w[j]) * max(0.0, margin - gap)
                pairs += 1
    return total / pairs if pairs else 0.0


def test_kl_is_the_sum_over_classes():
    t, s = logits(5, 4, 1), logits(5, 4, 2)
    for row in range(5):
        p, q = plain_softmax(t[row].tolist()), plain_softmax(s[row].tolist())
        assert kl_forward(t, s)[row].item() == pytest.approx(plain_kl(p, q), rel=1e-12)
        assert kl_reverse(t, s)[row].item() == pytest.approx(plain_kl(q, p), rel=1e-12)
        expected = 0.3 * plain_kl(p, q) + 0.6 * plain_kl(q, p)
        assert symmetric_kl(t, s, 0.3, 0.6)[row].item() == pytest.approx(expected, rel=1e-12)


def test_two_classes_in_closed_form():
    teacher = torch.tensor([[math.log(3.0), 0.0]])  # p = (3/4, 1/4)
    student = torch.zeros(1, 2)  # q = (1/2, 1/2)
    assert kl_forward(teacher, student).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5), abs=1e-7)
    assert kl_reverse(teacher, student).item() == pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), abs=1e-7)
    h = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert entropy(teacher).item() == pytest.approx(h, abs=1e-7)
    assert entropy_weight(teacher).item() == pytest.approx(1 - h / math.log(2), abs=1e-6)
    assert negative_loss(teacher).item() == pytest.approx(-h, abs=1e-7)


def test_entropy_weight_of_certain_and_uniform_distributions():
    certain, uniform = torch.tensor([[500.0, 0.0, 0.0]]), torch.full((1, 3), 7.0)
    assert entropy_weight(certain).item() == 1.0
    assert entropy_weight(uniform).item() == pytest.approx(0.0, abs=1e-6)
    assert negative_loss(uniform).item() == pytest.approx(-math.log(3), abs=1e-6)
    assert entropy_weight(torch.tensor([[4.0], [-2.0]])).tolist() == [1.0, 1.0]


def test_entropy_weight_with_the_epsilon_of_the_release():
    t = logits(6, 9, 3)
    p = t.softmax(-1)
    expected = 1 + (p * (p + 1e-6).log()).sum(-1) / math.log(9)
    torch.testing.assert_close(entropy_weight(t, 1e-6), expected)
    assert entropy_weight(torch.tensor([[500.0, 0.0, 0.0]]), 1e-6).item() == 1.0


def test_ranks_share_their_mean_if_equal():
    assert rank_weight(torch.tensor([0.3, 0.9, 0.0, 0.3])).tolist() == pytest.approx([0.5, 1, 0, 0.5])
    assert rank_weight(torch.tensor([0.2, 0.2])).tolist() == [0.5, 0.5] and rank_weight(torch.zeros(1)).tolist() == [1]


def test_none_of_the_classes_in_closed_form():
    teacher = torch.tensor([[math.log(3.0), 0.0]]).expand(3, 2)  # p = (3/4, 1/4)
    student = torch.zeros(3, 3, requires_grad=True)  # q = 1/3
    loss = none_loss(teacher, torch.tensor([0.5, 0.0, 1.0]), student)
    targets = [(0.375, 0.125, 0.5), (1.0,), (0.75, 0.25)]
    assert loss.tolist() == pytest.approx([sum(r * math.log(3 * r) for r in row) for row in targets], abs=1e-6)
    loss.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_extreme_logits_stay_finite():
    t = torch.tensor([[1e4, -1e4, 0.0]])
    s = torch.tensor([[-1e4, 1e4, 0.0]], requires_grad=True)
    loss = symmetric_kl(t, s).sum() + negative_loss(s).sum() + coupling(t, s).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(s.grad).all()


def test_a_teacher_with_an_excluded_class():
    t = torch.tensor([[0.0, 0.0, -math.inf]])
    s = torch.zeros(1, 3, requires_grad=True)
    loss = kl_forward(t, s)
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(1.5), abs=1e-6)
    assert torch.isfinite(s.grad).all()
    assert entropy(t).item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    t, s = logits(4, 6, 1).to(dtype), logits(4, 6, 2).to(dtype)
    result = symmetric_kl(t, s)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), symmetric_kl(t.double(), s.double()), atol=1e-5, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 9), st.floats(0.01, 30))
def test_properties(seed, rows, classes, scale):
    t, s = logits(rows, classes, seed, scale), logits(rows, classes, seed + 1, scale)
    shift = logits(rows, 1, seed + 2, 50.0)
    assert (kl_forward(t, s) >= -1e-12).all()
    torch.testing.assert_close(kl_forward(t, t), torch.zeros(rows, dtype=t.dtype))
    torch.testing.assert_close(symmetric_kl(t, s), symmetric_kl(s, t))
    torch.testing.assert_close(kl_forward(t + shift, s), kl_forward(t, s), atol=1e-9, rtol=1e-9)
    order = torch.randperm(classes)
    torch.testing.assert_close(kl_forward(t[:, order], s[:, order]), kl_forward(t, s))
    assert ((entropy_weight(t) >= 0) & (entropy_weight(t) <= 1)).all()
    assert (coupling(t, s).abs() <= 1 + 1e-12).all()
    torch.testing.assert_close(coupling(t, 2 * t), torch.ones(rows, dtype=t.dtype))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 5), st.floats(0.0, 2.0))
def test_cascaded_difference_is_the_mean_over_pairs(seed, rows, classes, margin):
    generator = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.normalize(torch.randn(rows, 6, generator=generator, dtype=torch.float64), dim=-1)
    d = torch.randn(classes, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (rows,), generator=generator)
    w = torch.rand(rows, generator=generator, dtype=torch.float64)
    result = cascaded_difference(x @ d.T, y, w, margin)
    assert result.item() == pytest.approx(plain_pcd(x, d, y.tolist(), w, margin), rel=1e-10, abs=1e-12)


def test_cascaded_difference_without_a_pair():
    d = torch.randn(3, 4, requires_grad=True)
    loss = cascaded_difference(torch.randn(5, 4) @ d.T, torch.full((5,), 2), torch.ones(5))
    loss.backward()
    assert loss.item() == 0 and (d.grad == 0).all()


def test_cascaded_difference_is_not_zero_as_in_the_release():
    """The sum over ordered pairs of d_a - d_b cancels; the margin form has a value and a gradient."""
    x = torch.nn.functional.normalize(logits(6, 8, 5), dim=-1)
    d = (0.01 * logits(3, 8, 6)).requires_grad_()
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    released = sum((d[a] - d[b]).mean() for a in range(3) for b in range(3) if a != b)
    assert abs(released.item()) < 1e-12
    loss = cascaded_difference(x @ d.T, y, torch.ones(6))
    loss.backward()
    assert loss.item() > 0.1 and d.grad.abs().max() > 1e-3


def test_cascaded_difference_of_separated_regions_is_zero():
    x = torch.eye(3)
    d = torch.eye(3)
    assert cascaded_difference(x @ d.T, torch.arange(3), torch.ones(3), margin=2.0).item() == 0
    assert cascaded_difference(-x @ d.T, torch.arange(3), torch.ones(3), margin=0.2).item() == pytest.approx(2.2)


def test_gradients():
    t, s = logits(3, 4, 1), logits(3, 4, 2).requires_grad_()
    other = logits(3, 4, 3).requires_grad_()
    for function in (kl_forward, kl_reverse, symmetric_kl):
        assert torch.autograd.gradcheck(lambda value, f=function: f(t, value), s)
    assert torch.autograd.gradcheck(negative_loss, s)
    assert torch.autograd.gradcheck(coupling, (s, other))
    x, d = logits(4, 5, 4).requires_grad_(), logits(3, 5, 5).requires_grad_()
    y, w = torch.tensor([0, 1, 2, 0]), torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: cascaded_difference(a @ b.T, y, w, 0.7), (x, d))
