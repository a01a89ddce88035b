"""Forms, scenes and captions of the synthetic images."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fdbpl.demo.drawing import form_mask, outline_mask
from fdbpl.demo.forms import EVERYDAY, FORMS, NAMES, WORKSHOP
from fdbpl.demo.scenes import COLOURS, FILLS, MEDIA, NOTHING, Facts, draw_pool, draw_scene
from tools.demo_pretraining.captions import GRADED_WORDS, WORKSHOP_WORDS, CaptionStyle, caption, consistent
from tools.demo_pretraining.vocabulary import SmallTokenizer, token_ids

STYLE = CaptionStyle(generic=0.4, graded=(0.25, 0.16))


def filled(form: tuple[str, int]) -> np.ndarray:
    return form_mask(form, np.eye(2) * 26, (32, 32), 64, 64)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.minimum(a, b).sum() / np.maximum(a, b).sum())


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, Facts]]:
    rng = np.random.default_rng(5)
    names = [*range(len(NAMES)), NOTHING, NOTHING] * 4
    return [draw_scene(rng, 48, 48, MEDIA[k % 4], name, k % 2) for k, name in enumerate(names)]


def test_there_are_28_names_of_two_forms_each():
    assert len(NAMES) == 28
    assert set(FORMS[EVERYDAY]) == set(FORMS[WORKSHOP]) == set(NAMES)


def test_all_56_forms_differ_also_when_flipped():
    masks = {(name, sense): filled((name, sense)) for name in NAMES for sense in (EVERYDAY, WORKSHOP)}
    for (first, a), (second, b) in itertools.combinations(masks.items(), 2):
        assert max(overlap(a, b), overlap(a[:, ::-1], b)) < 0.93, (first, second)


@pytest.mark.parametrize("name", ["crescent", "cross", "circle"])
def test_the_outline_follows_the_form(name):
    area, outline = filled((name, EVERYDAY)), outline_mask((name, EVERYDAY), np.eye(2) * 26, (32, 32), 64, 64, 4)
    assert outline.max() == 1
    assert outline.sum() < area.sum()
    near = np.asarray(Image.fromarray((area * 255).astype(np.uint8)).filter(ImageFilter.MaxFilter(9)))
    assert (outline[near == 0] == 0).all()


def test_scenes_are_reproducible():
    first, second = (draw_scene(np.random.default_rng(3), 60, 50, "photo", 4, WORKSHOP) for _ in range(2))
    assert first[0].shape == (50, 60, 3)
    assert (first[0] == second[0]).all() and first[1] == second[1]


def test_facts_match_the_arguments(scenes):
    for k, (_, facts) in enumerate(scenes):
        name = k % (len(NAMES) + 2)
        assert facts.name == min(name, NOTHING)
        assert facts.sense == (k % 2 if name < NOTHING else 2)
        assert MEDIA[facts.medium] == MEDIA[k % 4]
    assert all(facts.fill == FILLS.index("outlined") for _, facts in scenes if MEDIA[facts.medium] == "sketch")


def test_the_object_has_its_colour():
    for seed in range(8):
        image, facts = draw_scene(np.random.default_rng(seed), 64, 64, "icon", NAMES.index("circle"), EVERYDAY)
        if FILLS[facts.fill] == "solid":
            colour = np.array(list(COLOURS.values())[facts.colour])
            nearest = np.abs(image.astype(int) - colour).sum(-1).min()
            assert nearest < 0.35 * colour.sum() + 60  # brightness varies by -20 to +10 %


def test_a_pool_does_not_depend_on_its_size():
    small, facts = draw_pool(3, 7, [0.7, 0.1, 0.1, 0.1], 0.5, side=40)
    larger, more = draw_pool(5, 7, [0.7, 0.1, 0.1, 0.1], 0.5, side=40)
    assert (larger[:3] == small).all() and (more[:3] == facts).all()
    assert (larger[3] != larger[2]).any()


def test_captions_are_true_and_agree_with_their_claims(scenes):
    rng = np.random.default_rng(1)
    facts = np.array([true for _, true in scenes], np.int16)
    for _ in range(5):
        for true in (true for _, true in scenes):
            text, claims = caption(rng, true, facts[:, 0], STYLE)
            assert consistent(np.array([true]), claims[None])[0, 0], text
            assert text.endswith(".")
            words = set(text.rstrip(".").split())
            for word, column in [(name, 2) for name in COLOURS] + [
                (name, 4) for name in ("solid", "outlined", "dotted")
            ]:
                assert (word in words) == (
                    claims[column] == (list(COLOURS) if column == 2 else list(FILLS)).index(word)
                )
            if words & set(WORKSHOP_WORDS) and claims[8] < 0:
                assert claims[1] == WORKSHOP
            if words & set(GRADED_WORDS):
                assert claims[1] == -1  # suggests a sense without stating it
            assert (claims[8] >= 0) == bool({"no", "without"} & words)


def test_consistency_agrees_with_brute_force(scenes):
    rng = np.random.default_rng(2)
    facts = np.array([true for _, true in scenes], np.int16)
    claims = np.stack([caption(rng, true, facts[:, 0], STYLE)[1] for _, true in scenes])

    def fits(scene, claim) -> bool:
        for stated, true in zip(claim[:8], scene, strict=True):
            if stated != -1 and stated != true:
                return False
        if claim[8] != -1 and scene[0] == claim[8]:
            return claim[9] != -1 and scene[1] != claim[9]
        return True

    expected = [[fits(scene, claim) for claim in claims] for scene in facts]
    assert (consistent(facts, claims) == np.array(expected)).all()
    assert 0.02 < np.mean(expected) < 0.5


def test_every_caption_is_in_the_vocabulary(scenes):
    rng = np.random.default_rng(3)
    tokenize = SmallTokenizer(token_ids())
    facts = np.array([true for _, true in scenes], np.int16)
    texts = [caption(rng, true, facts[:, 0], STYLE)[0] for _ in range(10) for _, true in scenes]
    assert tokenize(texts).shape == (len(texts), 77)
    with pytest.raises(ValueError, match="zebra"):
        tokenize(["a photo of a zebra."])
