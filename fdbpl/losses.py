"""Loss terms as pure functions on tensors.

Conventions: B regions (rows) in a batch, C classes, D embedding width. Logits become distributions by a softmax over
the last dimension; half-precision input is converted to float32 first, float64 stays float64. Functions that return
[B] leave weighting and averaging to the caller. Cross entropy is `torch.nn.functional.cross_entropy`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def kl_forward(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(p || q) = sum_c p_c (ln p_c - ln q_c), p the teacher's, q the student's distribution.

    The forward term of KDPL (Mistretta et al., ECCV 2024, `coop_kdpl.py`) and of the FDBPL release (`coop_off.py`).

    Args:
        teacher_logits: [B, C]. student_logits: [B, C].

    Returns:
        [B], >= 0 up to rounding.
    """
    log_p, log_q = _log_softmax(teacher_logits), _log_softmax(student_logits)
    return _expected(log_p, log_p - log_q)


def kl_reverse(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(q || p): `kl_forward` with teacher and student exchanged. Shapes and source as for `kl_forward`."""
    return kl_forward(student_logits, teacher_logits)


def symmetric_kl(teacher_logits: Tensor, student_logits: Tensor, alpha: float = 0.5, beta: float = 0.5) -> Tensor:
    """alpha KL(p || q) + beta KL(q || p), KDPL's distillation loss per region: [B]."""
    return alpha * kl_forward(teacher_logits, student_logits) + beta * kl_reverse(teacher_logits, student_logits)


def entropy(logits: Tensor) -> Tensor:
    """H(p) = -sum_c p_c ln p_c in nats: [B, C] -> [B], in [0, ln C]."""
    log_p = _log_softmax(logits)
    return -_expected(log_p, log_p)


def entropy_weight(teacher_logits: Tensor, epsilon: float = 0.0) -> Tensor:
    """w = 1 - H(p) / ln C: 1 if the teacher is certain about a region, 0 if its distribution is uniform.

    FDBPL's region weight (`coop_off.py`). With a single class w = 1.

    Args:
        teacher_logits: [B, C].
        epsilon: added to p inside the logarithm of H. The release uses 1e-6, which changes w by about 1e-6 C / ln C and
            lets it leave [0, 1] by as much; this implementation clamps it.

    Returns:
        [B] in [0, 1].
    """
    classes = teacher_logits.shape[-1]
    if classes == 1:
        return _wide(teacher_logits).new_ones(teacher_logits.shape[:-1])
    if epsilon:
        p = _log_softmax(teacher_logits).exp()
        uncertainty = -(p * (p + epsilon).log()).sum(dim=-1)
    else:
        uncertainty = entropy(teacher_logits)
    return (1 - uncertainty / math.log(classes)).clamp(0, 1)


def mixed_logits(logits: Tensor, probabilities: Tensor, share: float) -> Tensor:
    """ln((1 - m) softmax(logits) + m p) with m = `share`: [B, C] twice -> [B, C]."""
    mixture = (1 - share) * _log_softmax(logits).exp() + share * probabilities
    return mixture.clamp(min=torch.finfo(mixture.dtype).tiny).log()


def rank_weight(weights: Tensor) -> Tensor:
    """Rank of each weight in the batch, scaled to [0, 1]: [B] -> [B]. Ties share their mean rank; one region: 1."""
    if len(weights) == 1:
        return torch.ones_like(weights)
    smaller = (weights[:, None] > weights).sum(dim=-1)
    ties = (weights[:, None] == weights).sum(dim=-1) - 1
    return (smaller + ties / 2) / (len(weights) - 1)


def weighted_mean(values: Tensor, weights: Tensor, normalize: bool = False) -> Tensor:
    """Mean over the batch of w L, or sum w L / sum w if `normalize`: [B] twice -> scalar."""
    weighted = weights * values
    return weighted.sum() / weights.sum().clamp(min=1e-6) if normalize else weighted.mean()


def negative_loss(negative_logits: Tensor) -> Tensor:
    """-H(q-): minimal, -ln C, when the negative prompts give all classes the same probability.

    Args:
        negative_logits: student logits with the negative prompts, [B, C].

    Returns:
        [B] in [-ln C, 0].
    """
    return -entropy(negative_logits)


def none_loss(teacher_logits: Tensor, weights: Tensor, logits: Tensor) -> Tensor:
    """KL(r || q) over the classes and "none of these", r = (w p, 1 - w) with p the teacher's distribution.

    Args:
        teacher_logits: [B, C]. weights: w, [B]. logits: of the student, with "none of these" last, [B, C + 1].

    Returns:
        [B], >= 0 up to rounding.
    """
    p, w = _log_softmax(teacher_logits).exp(), weights[:, None].clamp(0, 1)
    target = torch.cat([w * p, 1 - w], dim=-1)
    return F.kl_div(_log_softmax(logits), target, reduction="none").sum(dim=-1)


def coupling(positive_logits: Tensor, negative_logits: Tensor) -> Tensor:
    """cos(s+, s-) of the two raw logit vectors of a region (named JS in the release): [B, C] twice -> [B]."""
    return F.cosine_similarity(_wide(positive_logits), _wide(negative_logits), dim=-1)


def cascaded_difference(agreement: Tensor, labels: Tensor, weights: Tensor, margin: float = 0.2) -> Tensor:
    """Prompt-Cascaded Difference in margin form.

    First order: d_c = f+_c - f-_c. Second order, for regions i, j of different teacher labels a = y_i, b = y_j:
    d_a - d_b, which should separate region i from region j by a margin m:

        mean over ordered pairs (i, j), y_i != y_j, of  w_i w_j relu(m - (x_i - x_j) . (d_a - d_b))

    With S_ij = x_i . d_{y_j} the scalar product is S_ii + S_jj - S_ij - S_ji, so that no loop is needed. Class features
    that depend on the image (CoCoOp) are those of region i.
    This is our reading of the paper; the released
    sum over ordered pairs of (d_a - d_b) is identically zero (docs/FDBPL.md).

    Args:
        agreement: x_i . d_c, i.e. (s+ - s-) divided by the logit scale, [B, C].
        labels: y, the teacher's class of each region, int64 [B].
        weights: w, [B].
        margin: m, in units of cosine.

    Returns:
        scalar >= 0; 0 (with a zero gradient) if the batch has no pair of different labels.
    """
    agreement, weights = _wide(agreement), _wide(weights)
    similarity = agreement[:, labels]
    own = similarity.diagonal()
    gap = own[:, None] + own[None, :] - similarity - similarity.T
    pairs = labels[:, None] != labels[None, :]
    penalty = weights[:, None] * weights[None, :] * F.relu(margin - gap)
    return (penalty * pairs).sum() / pairs.sum().clamp(min=1)


def class_distance(features: Tensor, frozen: Tensor) -> Tensor:
    """1 - mean cosine between learned and frozen class features, KgCoOp's and TCP's "knowledge" term: scalar.

    Args:
        features: unit rows, [C, D]. frozen: unit rows, [C, D].
    """
    return 1 - (_wide(features) * _wide(frozen)).sum(dim=-1).mean()


def soft_cross_entropy(teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """-T^2 sum_c p_c ln q_c with p, q softened by T, ProGrad's "kl" per image: [B, C] twice -> [B]."""
    p = _log_softmax(teacher_logits / temperature).exp()
    return -(p * _log_softmax(student_logits / temperature)).sum(dim=-1) * temperature**2


def _expected(log_p: Tensor, values: Tensor) -> Tensor:
    """sum_c p_c values_c, where p_c = 0 contributes 0 even if values_c is infinite."""
    p = log_p.exp()
    return torch.where(p > 0, p * values, 0).sum(dim=-1)


def _log_softmax(logits: Tensor) -> Tensor:
    return F.log_softmax(_wide(logits), dim=-1)


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
