"""Prompts on a stand-in for CUDA: contexts depend on the seed only, and texts are encoded without padding or waits."""

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.prompts import PromptLearner, deep_text_prompts, encode_prompts, text, visual_prompts

NAMES = ["cat", "golden retriever", "a very long name of a thing"]


def random_contexts(device: str) -> list[torch.Tensor]:
    model = load_backbone("random:tiny", device).model
    torch.manual_seed(0)
    learner = PromptLearner(model, NAMES, 4)
    deep = [visual_prompts(model, 2, 2, "KEY"), deep_text_prompts(model, 2, 2, "KEY")]
    return [learner.ctx, *(value for prompts in deep for value in prompts.values())]


def test_random_contexts_do_not_depend_on_the_device(cuda):
    on_gpu, on_cpu = random_contexts("cuda"), random_contexts("cpu")
    assert all(value.is_cuda for value in on_gpu)
    assert all(torch.equal(found.cpu(), expected) for found, expected in zip(on_gpu, on_cpu, strict=True))


@pytest.mark.parametrize("chunk", [0, 2])
def test_positions_after_the_end_of_text_are_not_computed(cuda, monkeypatch, chunk):
    learner = {device: PromptLearner(load_backbone("random:tiny", device).model, NAMES, 4, "a photo of a")
               for device in ("cpu", "cuda")}  # fmt: skip
    packed, through = {"cpu": [], "cuda": []}, text._block_forward

    def counting(block, prefix, suffix, packing):
        packed[suffix.device.type].append(len(suffix))
        return through(block, prefix, suffix, packing)

    monkeypatch.setattr(text, "_block_forward", counting)
    encode = lambda device: encode_prompts(load_backbone("random:tiny", device).model, learner[device](), chunk)  # noqa: E731
    expected, found = encode("cpu"), encode("cuda")
    torch.testing.assert_close(found.cpu(), expected)
    assert packed["cuda"] == packed["cpu"]
    cuda.waits.clear()
    encode("cuda")
    assert not cuda.waits
