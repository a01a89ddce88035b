"""Region Information Lookup: random regions of images, what a teacher says of them, kept once for all runs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdbpl.regions.bank import RegionBank
    from fdbpl.regions.boxes import Regions, draw_regions, pixel_boxes
    from fdbpl.regions.generation import GenerationReport, generate
    from fdbpl.regions.identity import BankIdentity
    from fdbpl.regions.lookup import RegionLookup
    from fdbpl.regions.schedule import epoch_regions

__all__ = [
    "BankIdentity",
    "GenerationReport",
    "RegionBank",
    "RegionLookup",
    "Regions",
    "draw_regions",
    "epoch_regions",
    "generate",
    "pixel_boxes",
]
HOMES = {
    "BankIdentity": "identity",
    "GenerationReport": "generation",
    "RegionBank": "bank",
    "RegionLookup": "lookup",
    "Regions": "boxes",
    "draw_regions": "boxes",
    "epoch_regions": "schedule",
    "generate": "generation",
    "pixel_boxes": "boxes",
}


def __getattr__(name: str) -> object:
    """Imports what is asked for when it is: `python -m fdbpl.regions --help` does not wait for torch."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
