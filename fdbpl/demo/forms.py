"""The 28 class names of the demo, each with two forms: one for its everyday sense and one for its workshop sense.

About half of the workshop forms resemble the everyday form of *another* name, so that a prompt without the sense is
ambiguous. No form is the mirror image of another, because images may be flipped.
"""

import math
from dataclasses import dataclass

import numpy as np

from fdbpl.demo.polygons import (
    arc,
    box,
    cogwheel,
    disc,
    ellipse,
    heart,
    lens,
    points,
    regular,
    star,
    turned,
)

EVERYDAY, WORKSHOP = 0, 1
PI = math.pi
FIFTHS = [2 * PI * k / 5 - PI / 2 for k in range(5)]


@dataclass(frozen=True)
class Part:
    """A polygon that is filled, or cut out of the parts before it."""

    outline: np.ndarray  # float64 [n, 2]
    filled: bool = True


Form = list[Part]


def of(*outlines: np.ndarray) -> Form:
    return [Part(outline) for outline in outlines]


def hole(outline: np.ndarray) -> Form:
    return [Part(outline, filled=False)]


def rotated(form: Form, angle: float) -> Form:
    return [Part(turned(part.outline, angle), part.filled) for part in form]


EVERYDAY_FORMS: dict[str, Form] = {
    "circle": of(disc(0.9)),
    "triangle": of(regular(3, 1.05, y=0.2)),
    "star": of(star(5, 0.42)),
    "cross": of(
        points(-.33, -1, .33, -1, .33, -.33, 1, -.33, 1, .33, .33, .33, .33, 1, -.33, 1, -.33, .33, -1, .33, -1, -.33,
               -.33, -.33)
    ),
    "ring": of(disc(0.95)) + hole(disc(0.52)),
    "crescent": of(disc(1)) + hole(disc(0.85, 0.45, -0.1)),
    "heart": of(heart()),
    "arrow": of(points(-1, -.28, .1, -.28, .1, -.75, 1, 0, .1, .75, .1, .28, -1, .28)),
    "diamond": of(points(0, -1, .68, 0, 0, 1, -.68, 0)),
    "bolt": of(points(.15, -1, -.6, .15, -.05, .15, -.25, 1, .6, -.25, .05, -.25, .5, -1)),
    "drop": of(np.concatenate([points(0, -1), arc(0.62, -0.35, PI + 0.35, 16, y=0.35)])),
    "cloud": of(disc(.45, -.5, .15), disc(.55, .05, -.15), disc(.4, .55, .2), box(-.55, .1, .6, .6)),
    "house": of(box(-.7, -.1, .7, .9), points(-.95, -.1, 0, -.95, .95, -.1)) + hole(box(-.18, .35, .18, .9)),
    "tree": of(
        box(-.14, .5, .14, 1), points(0, -1, .5, -.25, -.5, -.25), points(0, -.6, .65, .15, -.65, .15),
        points(0, -.2, .8, .6, -.8, .6),
    ),
    "fish": of(ellipse(.7, .42, -.2), points(.35, 0, 1, -.5, 1, .5)) + hole(disc(.1, -.55, -.1)),
    "mushroom": of(arc(.9, PI, 2 * PI, 16), points(-.25, 0, .25, 0, .32, .9, -.32, .9)),
    "cup": of(points(-.75, -.7, .4, -.7, .3, .8, -.65, .8), disc(.38, .5, -.05)) + hole(disc(.2, .53, -.05))
    + of(points(-.72, -.6, .36, -.6, .3, .75, -.62, .75)),
    "key": of(disc(.42, -.55), box(-.2, -.12, 1, .12), box(.75, .1, 1, .45), box(.4, .1, .58, .38))
    + hole(disc(.2, -.55)),
    "umbrella": of(
        np.concatenate([arc(.95, PI, 2 * PI, 16), points(.6, -.15, .3, 0, 0, -.15, -.3, 0, -.6, -.15)]),
        box(-.07, -.1, .07, .85), box(-.35, .72, .07, .9),
    ),
    "anchor": of(
        disc(.25, 0, -.75), box(-.1, -.55, .1, .8), box(-.5, -.4, .5, -.2),
        np.concatenate([arc(.9, .1, PI - .1), arc(.62, PI - .1, .1)]),
    ) + hole(disc(.12, 0, -.75)),
    "gear": of(cogwheel(8, .72)) + hole(disc(.35)),
    "flag": of(box(-.75, -1, -.6, 1), points(-.6, -.95, .85, -.5, -.6, -.05)),
    "bell": of(
        np.concatenate([arc(.5, PI, 2 * PI, 10, y=-.45), points(.55, .3, .9, .6, -.9, .6, -.55, .3)]), disc(.2, 0, .75)
    ),
    "leaf": of(lens(), box(-.05, .6, .05, 1.25)),
    "hourglass": of(points(-.75, -.95, .75, -.95, .1, 0, .75, .95, -.75, .95, -.1, 0)),
    "crown": of(points(-.9, .7, -.95, -.6, -.45, 0, 0, -.8, .45, 0, .95, -.6, .9, .7)),
    "bottle": of(points(-.18, -1, .18, -1, .18, -.45, .45, -.1, .45, 1, -.45, 1, -.45, -.1, -.18, -.45)),
    "flower": of(*(disc(.38, .58 * math.cos(a), .58 * math.sin(a)) for a in FIFTHS)) + hole(disc(.22)),
}  # fmt: skip

WORKSHOP_FORMS: dict[str, Form] = {
    "circle": of(cogwheel(6, .68)),
    "triangle": rotated(EVERYDAY_FORMS["heart"], PI),
    "star": rotated(EVERYDAY_FORMS["cross"], PI / 4),
    "cross": of(star(4, .28)),
    "ring": rotated(EVERYDAY_FORMS["crescent"], -PI / 2),
    "crescent": of(box(-.9, -.9, .9, .9)) + hole(box(-.5, -.5, .5, .5)),
    "heart": rotated(EVERYDAY_FORMS["triangle"], PI),
    "arrow": of(points(0, -1, .75, -.05, -.75, -.05), points(0, -.1, .85, .9, -.85, .9)),
    "diamond": rotated(EVERYDAY_FORMS["hourglass"], PI / 2),
    "bolt": of(points(-.8, -.9, .8, -.9, .8, -.55, -.2, .55, .8, .55, .8, .9, -.8, .9, -.8, .55, .2, -.55, -.8, -.55)),
    "drop": rotated(of(lens()), PI / 2),
    "cloud": of(*(disc(.5, .5 * math.cos(a), .5 * math.sin(a)) for a in (-PI / 2, PI / 6, 5 * PI / 6))),
    "house": rotated(EVERYDAY_FORMS["arrow"], -PI / 2),
    "tree": rotated(EVERYDAY_FORMS["umbrella"], PI),
    "fish": of(points(-1, 0, 0, -.62, 1, 0, 0, .62)) + hole(disc(.28)),
    "mushroom": of(points(-.9, -.9, .9, -.9, .9, -.4, .25, -.4, .25, .95, -.25, .95, -.25, -.4, -.9, -.4)),
    "cup": of(points(-.8, -.9, -.35, -.9, -.35, .4, .35, .4, .35, -.9, .8, -.9, .8, .9, -.8, .9)),
    "key": of(
        points(-1, -.7, 1, -.7, 1, .8, .72, .8, .72, -.2, .4, -.2, .4, .8, .14, .8, .14, -.2, -.14, -.2, -.14, .8,
               -.4, .8, -.4, -.2, -.72, -.2, -.72, .8, -1, .8)
    ),
    "umbrella": of(
        points(-.8, -1, -.5, -1, -.5, -.2, -.15, -.2, -.15, -1, .15, -1, .15, -.2, .5, -.2, .5, -1, .8, -1, .8, .15,
               .15, .15, .15, 1, -.15, 1, -.15, .15, -.8, .15)
    ),
    "anchor": of(
        points(-.8, -.95, -.4, -.95, -.4, -.2, .4, -.2, .4, -.95, .8, -.95, .8, .95, .4, .95, .4, .2, -.4, .2, -.4,
               .95, -.8, .95)
    ),
    "gear": of(star(9, .66)),
    "flag": of(
        box(-.7, -1, -.45, 1), box(.45, -1, .7, 1), box(-.6, -.75, .6, -.5), box(-.6, -.12, .6, .12),
        box(-.6, .5, .6, .75),
    ),
    "bell": rotated(EVERYDAY_FORMS["drop"], PI),
    "leaf": of(regular(6, first=0)) + hole(disc(.42)),
    "hourglass": of(box(-.9, -.9, .9, -.5), box(-.9, -.2, .9, .2), box(-.9, .5, .9, .9)),
    "crown": of(
        points(-1, -.7, -.68, -.7, -.4, .2, -.12, -.6, .12, -.6, .4, .2, .68, -.7, 1, -.7, .55, .75, .25, .75, 0, .1,
               -.25, .75, -.55, .75)
    ),
    "bottle": of(
        points(.8, .9, .35, .9, .35, -.4, -.35, -.4, -.35, .9, -.8, .9, -.8, -.6, -.5, -.9, .5, -.9, .8, -.6)
    ),
    "flower": of(box(-.9, -.9, .9, .9)) + hole(box(-.6, -.18, .6, .18)) + hole(box(-.18, -.6, .18, .6)),
}  # fmt: skip

NAMES = tuple(EVERYDAY_FORMS)
FORMS = (EVERYDAY_FORMS, WORKSHOP_FORMS)  # by sense
# made of two discs: the outline of the hole leaves the form and is cut off there
CUT_OUTLINES = (("crescent", EVERYDAY), ("ring", WORKSHOP))
