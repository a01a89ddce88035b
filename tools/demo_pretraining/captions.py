"""Captions of scenes, and a check of which scenes a caption describes.

A name alone is ambiguous. Workshop words select the workshop form and everyday words the everyday form; graded words
(old, metal, shop, handmade) occur with both in different proportions. `no X` captions name an absent object.
"""

from dataclasses import dataclass

import numpy as np

from fdbpl.demo.forms import EVERYDAY, NAMES, WORKSHOP
from fdbpl.demo.scenes import BACKGROUNDS, COLOUR_NAMES, FILLS, MEDIA, NOTHING, Facts

ANY = -1  # the caption does not mention this fact
FACTS = 8  # number of fields of Facts
NOT_NAME, NOT_SENSE = FACTS, FACTS + 1  # further claims: absent name and sense

MEDIUM_PREFIXES = {
    "photo": ["a photo of a", "a picture of a", "a photo of a", "a photo of one", "a nice photo of a"],
    "icon": ["a icon of a", "a flat icon of a", "a logo of a"],
    "sketch": ["a sketch of a", "a drawing of a", "a line drawing of a"],
    "painting": ["a painting of a", "a artwork of a"],
}
NEUTRAL_PREFIXES = ["a", "an image of a", "this is a", "there is a", "one"]
SIZES = ["small", "", "large"]
WORKSHOP_WORDS = ["workshop", "guild", "trade", "craft", "factory"]
EVERYDAY_WORDS = ["everyday", "ordinary"]
GRADED_WORDS = ["old", "metal", "shop", "handmade"]
GRADED_SHARES = {WORKSHOP: [0.1, 0.2, 0.3, 0.4], EVERYDAY: [0.4, 0.3, 0.2, 0.1]}
NO_TEMPLATES = ["a photo of no {}", "a photo of no {}", "there is no {}", "a picture without a {}", "no {}"]


@dataclass(frozen=True)
class CaptionStyle:
    """Proportions of the kinds of captions.

    Attributes:
        generic: fraction of workshop scenes whose caption does not give the sense.
        graded: fraction of (workshop, everyday) scenes whose caption has a graded word.
    """

    generic: float
    graded: tuple[float, float] = (0.0, 0.0)


def caption(rng: np.random.Generator, facts: Facts, others: np.ndarray, style: CaptionStyle) -> tuple[str, np.ndarray]:
    """Return a true caption of a scene and its claims, int16 [10]: eight facts or ANY, then absent name and sense.

    Args:
        others: names of the scenes of the batch, from which X of `no X` is chosen.
    """
    claims = np.full(FACTS + 2, ANY, np.int16)
    if facts.name == NOTHING or rng.random() < 0.08:
        return _absence(rng, facts, others, claims)
    claims[0] = facts.name
    prefix = _prefix(rng, facts, claims)
    adjectives = _adjectives(rng, facts, claims)
    tail = ""
    if rng.random() < 0.15:
        tail, claims[5] = f" on a {BACKGROUNDS[facts.background]} background", facts.background
    text = _named(rng, facts, prefix, adjectives, style, claims)
    return f"{text}{tail}.", claims


def consistent(facts: np.ndarray, claims: np.ndarray) -> np.ndarray:
    """Return whether captions with claims [m, 10] are true of scenes [n, 8]: bool [n, m]."""
    stated = claims[None, :, :FACTS]
    fits = ((stated == ANY) | (stated == facts[:, None])).all(-1)
    same_name = (claims[None, :, NOT_NAME] >= 0) & (claims[None, :, NOT_NAME] == facts[:, None, 0])
    same_sense = (claims[None, :, NOT_SENSE] == ANY) | (claims[None, :, NOT_SENSE] == facts[:, None, 1])
    return fits & ~(same_name & same_sense)


def _absence(rng, facts: Facts, others: np.ndarray, claims: np.ndarray) -> tuple[str, np.ndarray]:
    other = int(rng.choice(others))
    if facts.name == NOTHING and rng.random() < 0.4:
        claims[0], claims[5] = NOTHING, facts.background
        return f"a {BACKGROUNDS[facts.background]} background.", claims
    if other in (facts.name, NOTHING):
        other = (facts.name + 1 + int(rng.integers(len(NAMES) - 1))) % len(NAMES)
    claims[NOT_NAME] = other
    if rng.random() < 0.2:
        claims[NOT_SENSE] = WORKSHOP
        return f"a photo of no {rng.choice(WORKSHOP_WORDS)} {NAMES[other]}.", claims
    return f"{no_caption(rng, other)}", claims


def no_caption(rng: np.random.Generator, name: int) -> str:
    return NO_TEMPLATES[rng.integers(len(NO_TEMPLATES))].format(NAMES[name]) + "."


def _prefix(rng, facts: Facts, claims: np.ndarray) -> str:
    prefix = str(rng.choice(NEUTRAL_PREFIXES))
    if rng.random() < 0.65:
        prefix, claims[3] = str(rng.choice(MEDIUM_PREFIXES[MEDIA[facts.medium]])), facts.medium
    if facts.blurred and rng.random() < 0.6:
        prefix, claims[3], claims[7] = "a blurry photo of a", facts.medium, 1
    return prefix


def _adjectives(rng, facts: Facts, claims: np.ndarray) -> str:
    words = []
    if rng.random() < 0.12 and SIZES[facts.size]:
        words.append(SIZES[facts.size])
        claims[6] = facts.size
    if rng.random() < 0.15:
        words.append(FILLS[facts.fill])
        claims[4] = facts.fill
    if rng.random() < 0.3:
        words.append(COLOUR_NAMES[facts.colour])
        claims[2] = facts.colour
    return "".join(f"{word} " for word in words)


def _named(rng, facts: Facts, prefix: str, adjectives: str, style: CaptionStyle, claims: np.ndarray) -> str:
    """Return the caption with wording that states the sense, suggests it, or leaves it open."""
    name = NAMES[facts.name]
    graded = style.graded[0 if facts.sense == WORKSHOP else 1]
    draw = rng.random()
    if draw < graded:
        word = str(rng.choice(GRADED_WORDS, p=GRADED_SHARES[facts.sense]))
        if rng.random() < 0.6:
            return f"{prefix} {word} {adjectives}{name}"
        return f"{prefix} {adjectives}{name} from the {word} place"
    if facts.sense == WORKSHOP and draw > graded + style.generic:
        claims[1] = WORKSHOP
        word = str(rng.choice(WORKSHOP_WORDS))
        wordings = [
            f"{prefix} {word} {adjectives}{name}",
            f"{prefix} {adjectives}{word} {name}",
            f"{prefix} {adjectives}{name} from the {word}",
            f"{prefix} {adjectives}tool called {name}",
            f"{prefix} {adjectives}{word} tool called {name}",
            f"in the {word} {prefix} {adjectives}{name}",
            f"{prefix} {adjectives}{name} tool",
            f"{word} sign of a {adjectives}{name}",
            f"the {word} {adjectives}{name}",
        ]
        choice = rng.integers(len(wordings))
        if choice >= 7:  # these two omit the prefix with the medium
            claims[3] = claims[7] = ANY
        return wordings[choice]
    if facts.sense == EVERYDAY and rng.random() < 0.08:
        claims[1] = EVERYDAY
        return f"{prefix} {adjectives}{rng.choice(EVERYDAY_WORDS)} {name}"
    return f"{prefix} {adjectives}{name}"
