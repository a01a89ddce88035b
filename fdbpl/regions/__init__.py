"""Region Information Lookup: random regions of images, what a teacher says of them, kept once for all runs."""

from fdbpl.regions.bank import RegionBank
from fdbpl.regions.boxes import Regions, draw_regions, pixel_boxes
from fdbpl.regions.generate import GenerationReport, generate
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
