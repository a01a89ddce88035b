"""Prompt spaces: learnt contexts around class names, and their exact, fast text encoding."""

from fdbpl.prompts.context import POSITIONS, PromptLearner, Prompts
from fdbpl.prompts.text import encode_prompts, encode_spaces

__all__ = ["POSITIONS", "PromptLearner", "Prompts", "encode_prompts", "encode_spaces"]
