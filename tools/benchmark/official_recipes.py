"""Implementations of the methods that FDBPL is compared with, after their papers and code.

Every step encodes 77 text positions for all classes in every prompt space, and the images with the student.

`KDPLStep` is KDPL (Mistretta et al., ECCV 2024) on CoOp: the teacher's image encoder in every step, forward and reverse
KL. `ReleaseStep` is FDBPL's release: stored teacher logits, positive and negative prompts that are encoded one after
the other, and the Prompt-Cascaded Difference as a Python loop over ordered pairs of classes, which sums to zero.
Losses are in float32 and region weights as in docs/FDBPL.md, so that values can be compared.

If the activations of all classes do not fit into memory, the classes are encoded in chunks. The class features are then
computed outside the timed step, so that each class passes forward and backward once within it, as in a step that fits
into memory; this favours these implementations.
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
FLOATS_OF_A_POSITION = 24  # activations of a position and block, in multiples of the encoder's width
SHARE_OF_MEMORY = 0.4  # fraction of the free memory for activations


class PromptSpace(nn.Module):
    """A learnable context, shared by all classes, between frozen tokens; prompts have 77 positions."""

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
        """Return the prompts [C, 77, d] and the positions of EOT [C]."""
        prefix, suffix = self.prefix[classes], self.suffix[classes]
        context = self.ctx.to(suffix.dtype).expand(len(suffix), -1, -1)
        return torch.cat([prefix, context, suffix], dim=1), self.eot[classes]


class OfficialStep:
    """A training step that decodes its B regions from the image files.

    Args:
        decode: returns the regions' pixels, uint8 [B, 3, S, S].
        words: initial context of each prompt space.
    """

    def __init__(self, student: Backbone, names: list[str], decode: Callable[[], Tensor], words: list[str]):
        self.student, self.decode, self.classes = student, decode, len(names)
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
        """Return class features [C, D] of CLIP's original text encoder."""
        model = self.student.model
        prompts, eot = space(classes)
        hidden = (prompts + model.positional_embedding.to(prompts.dtype)).permute(1, 0, 2)
        hidden = model.transformer(hidden).permute(1, 0, 2)
        hidden = model.ln_final(hidden).to(prompts.dtype)
        return (hidden[torch.arange(len(eot)), eot] @ model.text_projection).float()

    def prepare(self) -> None:
        """Encode all classes outside the step if the step encodes them in chunks."""
        if not self.whole:
            with torch.no_grad():
                made = [space() for space in self.spaces]
                self.features = [encode_prompts(self.student.model, Prompts(text, eot, 1)) for text, eot in made]

    def step(self) -> Tensor:
        """Make one step and return the loss, a scalar."""
        pixels = self.decode()
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

    def _parts(self) -> list[slice]:
        return [slice(start, start + self.at_once) for start in range(0, self.classes, self.at_once)]

    def loss(self, pixels: Tensor, features: list[Tensor]) -> Tensor:
        raise NotImplementedError


class KDPLStep(OfficialStep):
    """KDPL on CoOp.

    Args:
        texts: normalized class features of the teacher, [C, D of the teacher].
    """

    def __init__(self, student: Backbone, teacher: Backbone, texts: Tensor, names: list[str], decode, words: str):
        super().__init__(student, names, decode, [words])
        self.teacher, self.texts = teacher, texts
        self.models = [student, teacher]

    def loss(self, pixels: Tensor, features: list[Tensor]) -> Tensor:
        scale = self.student.logit_scale
        x = self.student.encode_image(pixels)
        t = scale * self.teacher.encode_image(pixels) @ self.texts.T
        s = scale * x @ F.normalize(features[0], dim=-1).T
        return 0.5 * kl_forward(t, s).mean() + 0.5 * kl_reverse(t, s).mean()


class ReleaseStep(OfficialStep):
    """FDBPL's release.

    Args:
        teacher_logits: stored logits [B, C] in the order of the decoded regions.
    """

    def __init__(self, student: Backbone, teacher_logits: Tensor, names: list[str], decode, words: list[str]):
        super().__init__(student, names, decode, words)
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
        """Return the sum of mean(d_a - d_b) over ordered pairs of different classes of the batch, which is zero."""
        classes = self.teacher_logits.argmax(dim=-1).unique().tolist()
        total = difference.new_zeros(())
        for first in classes:
            for second in classes:
                if first != second:
                    total = total + (difference[first] - difference[second]).mean()
        return total
