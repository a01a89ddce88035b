"""FDBPL: distillation-based prompt learning that pays for its teacher once (arXiv 2505.18053)."""

__version__ = "0.1.0"
