"""Dassl: found, patched where it broke, or stood in for."""

from .dassl_source import use_dassl

__all__ = ["use_dassl"]
