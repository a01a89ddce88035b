"""Learned prompts, around class names and inside the encoders, and their exact and fast encoding."""

from fdbpl.prompts.context import POSITIONS, PromptLearner, Prompts
from fdbpl.prompts.deep import NamedParameters, by_block, deep_text_prompts, visual_prompts, visual_width
from fdbpl.prompts.image import encode_images
from fdbpl.prompts.text import encode_prompt_sets, encode_prompts

__all__ = [
    "POSITIONS",
    "NamedParameters",
    "PromptLearner",
    "Prompts",
    "by_block",
    "deep_text_prompts",
    "encode_images",
    "encode_prompts",
    "encode_prompt_sets",
    "visual_prompts",
    "visual_width",
]
