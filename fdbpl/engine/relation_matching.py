"""Class features of names that were not trained: learned, frozen or in between, as the teacher relates the names.

The images of a training do not show whether its context also suits other names. The teacher's class features do: with a
suitable context, the cosines between the student's class features resemble those between the teacher's. Such relations
as knowledge of a teacher: Park et al., "Relational Knowledge Distillation", CVPR 2019; here they only select mu, and
no parameter is trained with them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fdbpl.class_names import clip_tokens
from fdbpl.errors import UserError

WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, math.inf)  # candidates for mu of the class features t + mu t_frozen
LEAST_NAMES = 4  # fewer names have too few cosines for a correlation


@dataclass
class RelationMatching:
    """Class names of the training, and the teacher's class features (TEACHER.MATCH_RELATIONS).

    Attributes:
        trained: class names of the training.
        teacher_features: returns the teacher's unit class features of C names, float32 [C, D of the teacher].
        chosen: (number of untrained classes, their mu) of the last class features; None if all classes were trained.
    """

    trained: list[str]
    teacher_features: Callable[[list[str]], Tensor]
    chosen: tuple[int, float] | None = None

    def untrained(self, classnames: list[str]) -> list[bool]:
        """Return which names are none of the training, compared by their CLIP tokens."""
        trained = set(clip_tokens(self.trained))
        return [tokens not in trained for tokens in clip_tokens(classnames)]

    def teacher(self, classnames: list[str]) -> Tensor:
        """Return the teacher's class features, [C, D].

        Raises:
            UserError: the teacher, or a file of descriptions, lacks some of the names.
        """
        try:
            return self.teacher_features(classnames)
        except UserError as error:
            raise UserError(
                f"{error}. TEACHER.MATCH_RELATIONS True needs the teacher's features of the tested classes and of the "
                f"{len(self.trained)} classes of the training; without them, set it to False"
            ) from error


def mix(learned: Tensor, frozen: Tensor, weight: float) -> Tensor:
    """Return the normalised t + mu t_frozen of unit class features, [..., C, D]; mu = inf gives t_frozen."""
    return frozen.expand_as(learned) if math.isinf(weight) else F.normalize(learned + weight * frozen, dim=-1)


def choose_weight(learned: Tensor, frozen: Tensor, teacher: Tensor, rows: Tensor) -> float:
    """Return the mu of WEIGHTS with which the student's relations of some classes agree most with the teacher's.

    Args:
        learned, frozen: the student's unit class features, [C, D] each.
        teacher: the teacher's, [C, D of the teacher].
        rows: the classes to choose for, bool [C]; their relations to all C classes count.

    Returns:
        The smallest of equally good values; 0.0 if there are fewer than LEAST_NAMES classes.
    """
    if len(learned) < LEAST_NAMES:
        return 0.0
    agreements = [agreement(mix(learned, frozen, weight), teacher)[rows].mean() for weight in WEIGHTS]
    return WEIGHTS[int(torch.stack(agreements).argmax())]


def agreement(features: Tensor, teacher: Tensor) -> Tensor:
    """Return Pearson's correlation of each class's cosines to the others with the teacher's, [C], in [-1, 1]."""
    relations = [_relations(unit) for unit in (features, teacher)]
    return F.cosine_similarity(*(cosines - cosines.mean(dim=-1, keepdim=True) for cosines in relations), dim=-1)


def _relations(unit: Tensor) -> Tensor:
    """Return the cosines of each of C classes to the others, [C, C - 1]."""
    cosines, count = unit @ unit.T, len(unit)
    return cosines[~torch.eye(count, dtype=torch.bool, device=unit.device)].view(count, count - 1)
