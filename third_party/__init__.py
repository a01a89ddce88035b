"""Dassl: import, compatibility patches, fallback."""

from .dassl_source import use_dassl

__all__ = ["use_dassl"]
