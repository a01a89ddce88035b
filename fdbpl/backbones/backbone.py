"""Common interface of all CLIPs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
TEXTS_AT_A_TIME = 256  # 20,930 at once would need 26 GB for one activation of a ViT-H teacher


@dataclass
class Backbone:
    """A frozen image-text model in eval mode.

    Attributes:
        name: name that `load_backbone` was called with.
        model: OpenAI's `clip.model.CLIP`, or an open_clip model (teachers only).
        sha256: hex digest of the weights, which identifies the model in manifests.
        image_size: side of the square input in pixels.
        embed_dim: width D of the joint embedding space.
        logit_scale: factor on the cosine (already exponentiated).
        tokenize: list of C texts -> int64 [C, 77].
        encode_tokens: int64 [C, 77] -> [C, D], not normalised.
    """

    name: str
    model: nn.Module
    sha256: str
    image_size: int
    embed_dim: int
    logit_scale: float
    tokenize: Callable[[list[str]], Tensor]
    encode_tokens: Callable[[Tensor], Tensor]
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    _moments: dict = field(default_factory=dict, repr=False)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the activations; some parameters may be float32."""
        return getattr(self.model, "dtype", None) or next(self.model.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def encode_image(self, images: Tensor) -> Tensor:
        """Encode images to unit embeddings.

        Args:
            images: [B, 3, S, S]; uint8 pixels are normalised here, floats are expected to be normalised.

        Returns:
            float32 [B, D], rows of length one.
        """
        features = self.model.encode_image(self.prepare(images)).float()
        return nn.functional.normalize(features, dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Encode C texts to unit embeddings: float32 [C, D].

        A text of several lines gets the normalised mean of the unit embeddings of its lines.
        """
        lines = [text.split("\n") for text in texts]
        features = nn.functional.normalize(self.text_features([line for group in lines for line in group]), dim=-1)
        if len(features) == len(texts):
            return features
        means = [group.mean(dim=0) for group in features.split([len(group) for group in lines])]
        return nn.functional.normalize(torch.stack(means), dim=-1)

    @torch.no_grad()
    def text_features(self, texts: list[str]) -> Tensor:
        """Encode C texts, in parts, to embeddings that are not normalised: float32 [C, D]."""
        parts = self.tokenize(texts).split(TEXTS_AT_A_TIME)
        return torch.cat([self.encode_tokens(part.to(self.device)).float() for part in parts])

    def prepare(self, images: Tensor) -> Tensor:
        """Move images to the model's device and dtype and normalise uint8 pixels."""
        images = images.to(self.device, non_blocking=True)
        return (self.normalize(images) if images.dtype == torch.uint8 else images).to(self.dtype)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalise uint8 [B, 3, S, S] with mean and standard deviation: float32."""
        if pixels.device not in self._moments:
            self._moments[pixels.device] = [
                torch.tensor(values).view(1, 3, 1, 1).to(pixels.device, non_blocking=True)
                for values in (self.mean, self.std)
            ]
        mean, std = self._moments[pixels.device]
        return (pixels.float() / 255 - mean) / std
