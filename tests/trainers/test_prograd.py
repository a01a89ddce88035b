"""ProGrad's prompts compared with their definition, for templates that have more tokens than words."""

import pytest
import torch

from fdbpl.backbones import load_backbone
from fdbpl.errors import UserError
from trainers.prograd import ProGrad, ProGradStudent

NAMES = ["cat", "golden retriever", "wheel_chair"]
COMMA = "a type of pet, a photo of a {}."  # eight words before the class name, nine tokens


@pytest.fixture
def student(make_cfg, student_file):
    """Return student(template, **settings), which returns ProGrad's student on the tiny CLIP."""

    def make(template, **settings):
        cfg = make_cfg("ProGrad", **{f"TRAINER.PROGRAD.{key}": value for key, value in settings.items()})
        return ProGradStudent(cfg.TRAINER.PROGRAD, load_backbone(student_file, "cpu", "fp32"), NAMES, template)

    return make


@torch.no_grad()
def expected_features(model, template: str, n_ctx: int) -> torch.Tensor:
    """Encode zeros, the text before the class name, the name and a full stop with CLIP's own text encoder.

    The context is the zeros and as many tokens of the template as it has words.
    """
    from clip.simple_tokenizer import SimpleTokenizer

    encode, rows, ends = SimpleTokenizer().encode, [], []
    before = template.removesuffix(" {}.")
    zeros = n_ctx - len(before.split(" "))
    for name in NAMES:
        ids = [49406, *encode("X") * zeros, *encode(before), *encode(f"{name.replace('_', ' ')}."), 49407]
        embedded = model.token_embedding(torch.tensor(ids + [0] * (77 - len(ids))))
        embedded[1 : 1 + zeros] = 0
        rows.append(embedded)
        ends.append(len(ids) - 1)
    hidden = (torch.stack(rows) + model.positional_embedding).permute(1, 0, 2)
    hidden = model.ln_final(model.transformer(hidden).permute(1, 0, 2))
    features = hidden[torch.arange(len(ends)), ends] @ model.text_projection
    return features / features.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("template", [COMMA, "a photo of a {}.", "an x-ray, e.g. of a {}."])
@pytest.mark.parametrize("n_ctx", [8, 16])
def test_tokens_beyond_the_words_stay_between_context_and_class_name(student, template, n_ctx):
    built = student(template, N_CTX=n_ctx)
    assert built.prompt_learner.ctx.shape == (n_ctx, 64)
    torch.testing.assert_close(
        built.text_features()[0], expected_features(built.backbone.model, template, n_ctx), atol=1e-5, rtol=0
    )


def test_only_as_many_tokens_as_words_are_trained(student):
    built = student(COMMA, N_CTX=16)
    learner = built.prompt_learner
    ninth_token = built.backbone.model.token_embedding.weight[320]  # "a"
    assert torch.equal(learner.token_suffix[0, 0], ninth_token)
    assert (learner.ctx[:8] == 0).all() and (learner.ctx[8:] != 0).any(dim=-1).all()


def test_the_official_templates(make_cfg):
    cfg = make_cfg("ProGrad").clone()
    cfg.defrost()
    assert ProGrad.choose_template(cfg, "a drawing of a {}.") == "a drawing of a {}."
    cfg.DATASET.NAME = "OxfordPets"
    assert ProGrad.choose_template(cfg, "a photo of a {}, a type of pet.") == COMMA


def test_class_specific_contexts_cannot_start_from_the_template(build):
    with pytest.raises(UserError, match=r"PROGRAD\.CSC.*TEMPLATE_INIT False"):
        build("ProGrad", **{"TRAINER.PROGRAD.CSC": True})
    trainer = build("ProGrad", **{"TRAINER.PROGRAD.CSC": True, "TRAINER.PROGRAD.TEMPLATE_INIT": False})
    assert trainer.student.prompt_learner.ctx.shape == (5, 5, 64)
