"""Run folders of trainers whose parameters are perturbed instead of trained."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fdbpl.backbones import openai

from ..trainers.conftest import build_shared, cfg_in, data_root, teacher_file, tiny_clip  # noqa: F401
from ..trainers.methods import finish_run_folder


class Archive(torch.nn.Module):
    """TorchScript module with a CLIP's parameters under their own names, like OpenAI's files."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        for name, value in model.named_parameters(recurse=False):
            setattr(self, name, value)

    def forward(self, x):
        return x + self.logit_scale


@pytest.fixture(scope="session")
def student_file(tmp_path_factory) -> Iterator[str]:
    """A CLIP that `clip.load` reads unchanged: a TorchScript archive of float16 values, which counts as published by
    OpenAI. Its state dict is in state.pt."""
    model, path = tiny_clip(1, 32, 2), tmp_path_factory.mktemp("clip") / "student.pt"
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.half())
    torch.save(model.state_dict(), path.with_name("state.pt"))
    torch.jit.trace_module(Archive(model), {"forward": torch.zeros(1)}).save(path)
    url = f"https://example.org/{openai.sha256_of(path)}/student.pt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(openai.clip_package().clip._MODELS, "student", url)
        yield str(path)


@pytest.fixture(scope="session")
def finished(build_shared):  # noqa: F811
    """finished(trainer, **settings) -> its run folder."""
    made = {}

    def of(name: str, **settings) -> Path:
        key = json.dumps([name, settings])
        if key not in made:
            trainer = build_shared(name, f"run{len(made)}", **settings)
            torch.manual_seed(len(made))
            with torch.no_grad():
                for module in trainer._models.values():
                    for parameter, value in module.state_dict().items():
                        if value.is_floating_point() and "token_" not in parameter:
                            value.mul_(1 + 0.3 * torch.rand_like(value)).add_(0.01 * torch.rand_like(value))
            trainer.save_model(0, trainer.output_dir)
            trainer.test()
            made[key] = finish_run_folder(trainer)
        return made[key]

    return of
