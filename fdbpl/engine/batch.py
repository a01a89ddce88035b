"""The contents of one training batch."""

from typing import NamedTuple

from torch import Tensor


class TrainBatch(NamedTuple):
    """Data of a batch of B images or regions. Fields that a supervision does not provide are None.

    Attributes:
        images: [B, 3, S, S], uint8 pixels or normalised floats; with several processes this process's share of them.
        image_features: unit features [B, D] of the student's frozen image tower, float32, looked up in a region bank.
        labels: int64 [B]; -100 = unknown.
        teacher_logits: float32 [B, C].
        words: K words of a vocabulary, its indices int64 [K]. word_logits: the teacher's logits, float32 [B, K].
        target_logits: log of the distribution to learn, float32 [B, C]; None = `teacher_logits`.
        positive_factor: factors of the positive terms, float32 [B], with mean 1 over the batch; None = all 1.
        entropy: entropy of the teacher's distribution divided by ln C, [B] in [0, 1]; given only if `teacher_logits`
            is not the full distribution.
        total: B, if `images` is a share of the batch; None = `images` is the whole batch.
    """

    images: Tensor | None = None
    image_features: Tensor | None = None
    labels: Tensor | None = None
    teacher_logits: Tensor | None = None
    words: Tensor | None = None
    word_logits: Tensor | None = None
    target_logits: Tensor | None = None
    positive_factor: Tensor | None = None
    entropy: Tensor | None = None
    total: int | None = None
