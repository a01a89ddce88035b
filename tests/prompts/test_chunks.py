"""Encoding in chunks: the same features and gradients with less memory."""

import copy
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fdbpl.prompts import PromptLearner, Prompts, encode_prompt_sets, encode_prompts

CASES = {
    "two prompt sets": ({}, {}, 2),
    "one prompt set": ({}, {}, 1),
    "class-specific": ({"csc": True}, {}, 2),
    "class token in the middle": ({"class_token_position": "middle"}, {}, 1),
    "shared deep prompts": ({}, {1: (4, 128), 2: (4, 128)}, 2),
    "deep prompts by class": ({}, {1: (6, 4, 128)}, 2),
}


def gradients(features: list[torch.Tensor], leaves: list[torch.Tensor]) -> list[torch.Tensor]:
    torch.manual_seed(1)
    loss = sum((part * torch.randn_like(part)).sum() + part.pow(2).sum() for part in features)
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("chunk", [1, 2, 4, 9])
@pytest.mark.parametrize("case", CASES)
def test_chunks_change_neither_features_nor_gradients(tiny_clip, classnames, case, chunk):
    settings, shapes, count = CASES[case]
    torch.manual_seed(0)
    learners = [PromptLearner(tiny_clip, classnames, 4, **settings) for _ in range(count)]
    deep = {block: torch.randn(shape, requires_grad=True) for block, shape in shapes.items()}
    leaves = [*(learner.ctx for learner in learners), *deep.values()]

    def encode(chunk: int) -> list[torch.Tensor]:
        own, *others = (learner() for learner in learners)
        return encode_prompt_sets(tiny_clip, own._replace(deep=deep), *others, chunk=chunk)

    full, parts = encode(0), encode(chunk)
    for found, expected in zip(parts, full, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6 * float(expected.detach().abs().max()))
    for found, expected in zip(gradients(parts, leaves), gradients(full, leaves), strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-6 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_gradients_in_double_precision(tiny_clip, classnames, case, monkeypatch):
    """Relative deviation of at most 1e-6 for each value, also for small ones, for which float32 is too coarse."""
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: tensor)  # features stay in double, too
    exact = copy.deepcopy(tiny_clip).double()
    settings, shapes, count = CASES[case]
    torch.manual_seed(0)
    learners = [PromptLearner(exact, classnames, 4, **settings).double() for _ in range(count)]
    deep = {block: torch.randn(shape, dtype=torch.float64, requires_grad=True) for block, shape in shapes.items()}
    leaves = [*(learner.ctx for learner in learners), *deep.values()]
    found = []
    for chunk in (0, 2):
        own, *others = (learner() for learner in learners)
        features = encode_prompt_sets(exact, own._replace(deep=deep), *others, chunk=chunk)
        found.append([*features, *gradients(features, leaves)])
    for full, parts in zip(*found, strict=True):
        assert full.dtype == torch.float64 and full.abs().max() > 0
        atol = 1e-9 * float(full.detach().abs().max())  # some values are sums that cancel
        torch.testing.assert_close(parts, full, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("chunk", [1, 4, 6, 7, 13])
def test_contexts_of_images_are_chunked_by_image_first(tiny_clip, classnames, chunk):
    learner, shift = PromptLearner(tiny_clip, classnames, 4), torch.randn(3, 1, 1, 128, requires_grad=True)
    full, parts = (encode_prompts(tiny_clip, learner(learner.ctx + shift), c) for c in (0, chunk))
    torch.testing.assert_close(parts, full, rtol=1e-6, atol=1e-6 * float(full.detach().abs().max()))
    found, expected = (gradients([features], [learner.ctx, shift]) for features in (parts, full))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))


def test_chunks_recompute_in_the_precision_of_the_forward_pass(tiny_clip, classnames):
    learner = PromptLearner(tiny_clip, classnames, 4)
    found = []
    for chunk in (0, 2):
        with torch.autocast("cpu", torch.bfloat16):
            features = encode_prompts(tiny_clip, learner(), chunk)
        found.append((features, *gradients([features], [learner.ctx])))  # backward outside of autocast
    for full, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, full, rtol=0, atol=0.01 * float(full.detach().abs().max()))


def test_two_backward_passes_after_one_forward_pass(tiny_clip, classnames):
    """ProGrad runs two backward passes."""
    learner = PromptLearner(tiny_clip, classnames, 4)
    features = encode_prompts(tiny_clip, learner(), 2)
    (first,) = torch.autograd.grad(features.sum(), learner.ctx, retain_graph=True)
    (second,) = torch.autograd.grad(features.sum(), learner.ctx)
    assert torch.equal(first, second) and first.abs().max() > 0


class LiveBytes(TorchDispatchMode):
    """Attribute `most`: the peak of bytes of live tensors that were created inside this mode."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._alive: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self._alive:
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._gone, storage._cdata)
        return output

    def _gone(self, storage: int) -> None:
        self.now -= self._alive.pop(storage)


def peak(clip_model, prompt_sets: list[Prompts], chunk: int) -> int:
    with LiveBytes() as live:
        sum(part.pow(2).sum() for part in encode_prompt_sets(clip_model, *prompt_sets, chunk=chunk)).backward()
    return live.most


def test_activations_of_one_chunk_are_alive_at_a_time(tiny_clip):
    names = [f"cat {number % 10}" for number in range(96)]
    learners = [PromptLearner(tiny_clip, names, 4) for _ in range(2)]
    peaks = {chunk: peak(tiny_clip, [learner() for learner in learners], chunk) for chunk in (0, 96, 48, 24, 12)}
    # a constant (embeddings, their gradients, features) plus a part proportional to the chunk
    slope = (peaks[96] - peaks[48]) / 48
    constant = peaks[48] - 48 * slope
    for chunk in (24, 12):
        assert peaks[chunk] == pytest.approx(constant + chunk * slope, rel=0.2), peaks
    assert peaks[12] < peaks[0] / 3, peaks
