"""Tokens of CLIP's vocabulary in captions and templates of the demo."""

import torch
from torch import Tensor

from fdbpl.backbones.openai import tokenize
from fdbpl.demo.forms import NAMES
from fdbpl.demo.scenes import BACKGROUNDS, COLOUR_NAMES, FILLS
from tools.demo_pretraining.captions import EVERYDAY_WORDS, GRADED_WORDS, WORKSHOP_WORDS

VOCABULARY_SIZE = 49408
WORDS = (  # noqa: SIM905
    "a an the of photo picture no not nothing object there is this one image nice from tool called in sign icon flat "
    "logo sketch drawing line painting artwork blurry small large empty background on type shape good bad cropped "
    "close - up art rendition thing place without with any something else absent X x . ,"
).split(" ")


def token_ids() -> list[int]:
    """Return the sorted token ids, including start, end and padding."""
    words = {*WORDS, *NAMES, *COLOUR_NAMES, *BACKGROUNDS, *FILLS, *WORKSHOP_WORDS, *EVERYDAY_WORDS, *GRADED_WORDS}
    texts = [*sorted(words), *(f"a photo of a {name}." for name in NAMES)]
    return sorted(set(tokenize(texts).flatten().tolist()))


class SmallTokenizer:
    """Tokenizer for a token table of only `ids`, in their order, so that EOT remains the largest row."""

    def __init__(self, ids: list[int]):
        self.rows = torch.full((VOCABULARY_SIZE,), -1)
        self.rows[torch.tensor(ids)] = torch.arange(len(ids))
        self.cache: dict[str, Tensor] = {}

    def __call__(self, texts: list[str]) -> Tensor:
        """Return rows of the token table, int64 [C, 77].

        Raises:
            ValueError: a word is not in the vocabulary.
        """
        for text in texts:
            if text not in self.cache:
                rows = self.rows[tokenize([text])[0]]
                if (rows < 0).any():
                    raise ValueError(f"{text!r} has tokens that are not in the demo vocabulary")
                self.cache[text] = rows
        return torch.stack([self.cache[text] for text in texts])
