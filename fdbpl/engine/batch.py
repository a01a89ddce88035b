"""One batch as a trainer sees it."""

from typing import NamedTuple

from torch import Tensor


class View(NamedTuple):
    """B images or regions and what is known of them. What a supervision does not provide is None.

    Attributes:
        images: [B, 3, S, S], uint8 pixels or normalised floats; with several processes this one's share of them.
        image_features: unit features [B, D] of the student's frozen image tower in float32, looked up.
        labels: int64 [B].
        teacher_logits: float32 [B, C].
        entropy: the teacher's, over ln C, [B] in [0, 1]; only where it is known better than from `teacher_logits`.
        total: B, where `images` is a share that the others' are gathered to; None = `images` are all there is.
    """

    images: Tensor | None = None
    image_features: Tensor | None = None
    labels: Tensor | None = None
    teacher_logits: Tensor | None = None
    entropy: Tensor | None = None
    total: int | None = None
