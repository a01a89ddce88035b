"""The recipes that FDBPL replaces, as their published descriptions and code have them: 77 text positions for every
class, in every prompt space, whatever the names; the student's image tower in every step.

`KDPLStep`: KDPL (Mistretta et al., ECCV 2024) on CoOp: the teacher's image tower in every step, forward and reverse KL.
`ReleaseStep`: FDBPL's release: stored teacher logits, a positive and a negative prompt space that pass the text tower
one after the other, and its Prompt-Cascaded Difference: a Python loop over ordered pairs of the batch's classes, which
adds up to zero. Losses in float32, region weights as here (docs/FDBPL.md), so that numbers can be compared.

Where the activations of all classes do not fit the memory, a number of classes passes at a time: the gradient of the
class features is known beforehand (outside of the timed step), so that forward and backward run once for each class, as
in a step that fits. That is the least such a machine can need, and to these recipes' advantage.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fdbpl.backbones import Backbone
from fdbpl.losses import coupling, entropy_weight, kl_forward, kl_reverse, negative_loss
from fdbpl.prompts import Prompts, encode_prompts
from tools.benchmark.memory import available_mib

POSITIONS = 77
FLOATS_OF_A_POSITION = 24  # kept for the backward pass per position and block, in widths of the tower
SHARE_OF_MEMORY = 0.4  # of what is free, for activations


class PromptSpace(nn.Module):
    """A context learnt for all classes before frozen tokens, as long as the tower allows."""

    def __init__(self, backbone: Backbone, names: list[str], words: str):
        super().__init__()
        count, device = len(words.split()), backbone.device
        tokens = backbone.tokenize([f"{words} {name}." for name in names]).to(device)
        with torch.no_grad():
            embedded = backbone.model.token_embedding(tokens).to(backbone.dtype)
        self.eot = tokens.argmax(dim=-1)
        self.ctx = nn.Parameter(embedded[0, 1 : 1 + count].float().clone())
        self.prefix, self.suffix = embedded[:, :1], embedded[:, 1 + count :]

    def forward(self, classes: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Prompts [C, 77, d] and positions of their ends [C]."""
        prefix, suffix = self.prefix[classes], self.suffix[classes]
        context = self.ctx.to(suffix.dtype).expand(len(suffix), -1, -1)
        return torch.cat([prefix, context, suffix], dim=1), self.eot[classes]


class OfficialStep:
    """A step on B regions whose pixels are cut from the files in it.

    Args:
        cut: the regions' pixels, uint8 [B, 3, S, S]. words: what each prompt space starts from.
    """

    def __init__(self, student: Backbone, names: list[str], cut: Callable[[], Tensor], words: list[str]):
        self.student, self.cut, self.classes = student, cut, len(names)
        self.spaces = nn.ModuleList([PromptSpace(student, names, start) for start in words])
        self.optimiser = torch.optim.SGD(self.spaces.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
        self.at_once = self._classes_that_fit()
        self.models = [student]

    @property
    def whole(self) -> bool:
        return self.at_once >= self.classes

    def _classes_that_fit(self) -> int:
        tower = self.student.model.transformer
        of_a_class = POSITIONS * tower.layers * tower.width * 4 * FLOATS_OF_A_POSITION * len(self.spaces) / 2**20
        fit = int(SHARE_OF_MEMORY * available_mib(str(self.student.device)) / of_a_class)
        return self.classes if fit >= self.classes else max(1, fit)

    def encode(self, space: PromptSpace, classes: slice = slice(None)) -> Tensor:
        """Class features [C, D] of CLIP's own text tower."""
        model = self.student.model
        prompts, eot = space(classes)
        hidden = (prompts + model.positional_embedding.to(prompts.dtype)).permute(1, 0, 2)
        hidden = model.transformer(hidden).permute(1, 0, 2)
        hidden = model.ln_final(hidden).to(prompts.dtype)
        return (hidden[torch.arange(len(eot)), eot] @ model.text_projection).float()

    def prepare(self) -> None:
        """Outside of the step: where classes pass in parts, the features that all of them have, by the quick way."""
        if not self.whole:
            with torch.no_grad():
                made = [space() for space in self.spaces]
                self.features = [encode_prompts(self.student.model, Prompts(text, eot, 1)) for text, eot in made]

    def step(self) -> Tensor:
        """One step; returns the loss, a scalar."""
        pixels = self.cut()
        self.optimiser.zero_grad()
        if self.whole:
            loss = self.loss(pixels, [self.encode(space) for space in self.spaces])
            loss.backward()
        else:
            leaves = [features.requires_grad_() for features in self.features]
            loss = self.loss(pixels, leaves)
            gradients = torch.autograd.grad(loss, leaves)
            for space, gradient in zip(self.spaces, gradients, strict=True):
                for part in self._parts():
                    self.encode(space, part).backward(gradient[part])
        self.optimiser.step()
        return loss.detach()

    def warm_up(self) -> None:
        """Two regions and eight classes: a whole step takes long enough to need no more."""
        self.image_work(self.cut()[:2])
        self.encode(self.spaces[0], slice(0, 8)).sum().backward()
        self.optimiser.zero_grad()

    def _parts(self) -> list[slice]:
        return [slice(start, start + self.at_once) for start in range(0, self.classes, self.at_once)]

    def loss(self, pixels: Tensor, features: list[Tensor]) -> Tensor:
        raise NotImplementedError

    def image_work(self, pixels: Tensor) -> None:
        """What a step does with pixels before any class feature is needed."""
        self.student.encode_image(pixels)


class KDPLStep(OfficialStep):
    """Args: texts: the teacher's unit class features, [C, D of the teacher]."""

    def __init__(self, student: Backbone, teacher: Backbone, texts: Tensor, names: list[str], cut, words: str):
        super().__init__(student, names, cut, [words])
        self.teacher, self.texts = teacher, texts
        self.models = [student, teacher]

    def loss(self, pixels: Tensor, features: list[Tensor]) -> Tensor:
        scale = self.student.logit_scale
        x = self.student.encode_image(pixels)
        t = scale * self.teacher.encode_image(pixels) @ self.texts.T
        s = scale * x @ F.normalize(features[0], dim=-1).T
        return 0.5 * kl_forward(t, s).mean() + 0.5 * kl_reverse(t, s).mean()

    def image_work(self, pixels: Tensor) -> None:
        super().image_work(pixels)
        self.teacher.encode_image(pixels)


class ReleaseStep(OfficialStep):
    """Args: teacher_logits: stored, [B, C], in the order of the regions that `cut` gives."""

    def __init__(self, student: Backbone, teacher_logits: Tensor, names: list[str], cut, words: list[str]):
        super().__init__(student, names, cut, words)
        self.teacher_logits = teacher_logits

    def loss(self, pixels: Tensor, features: list[Tensor]) -> Tensor:
        t, x = self.teacher_logits, self.student.encode_image(pixels)
        positive, negative = (F.normalize(feature, dim=-1) for feature in features)
        s_positive, s_negative = (self.student.logit_scale * x @ feature.T for feature in (positive, negative))
        w = entropy_weight(t, 1e-6)
        loss = (w * (0.5 * kl_forward(t, s_positive) + 0.5 * kl_reverse(t, s_positive))).mean()
        loss = (
            loss + ((1 - w) * negative_loss(s_negative)).mean() + 0.001 * (w * coupling(s_positive, s_negative)).mean()
        )
        return loss + 0.1 * self.cascaded_difference(positive - negative)

    def cascaded_difference(self, difference: Tensor) -> Tensor:
        """Sum over ordered pairs of classes a != b of the batch of mean(d_a - d_b): zero."""
        classes = self.teacher_logits.argmax(dim=-1).unique().tolist()
        total = difference.new_zeros(())
        for first in classes:
            for second in classes:
                if first != second:
                    total = total + (difference[first] - difference[second]).mean()
        return total
