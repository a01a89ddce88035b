"""Dassl: found, patched where it broke, or stood in for."""

from third_party.dassl_source import use_dassl

__all__ = ["use_dassl"]
