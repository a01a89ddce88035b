"""Other classes of the demo world, for learning on one data set and testing on others: colours, and colours with fills."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.demo import DrawnDataset
from fdbpl.demo import attributes


@DATASET_REGISTRY.register()
class DemoColours(DrawnDataset):
    dataset_dir = "demo_colours"
    pictures = attributes.COLOURS
    template = "a photo of a {} thing."


@DATASET_REGISTRY.register()
class DemoPatterns(DrawnDataset):
    dataset_dir = "demo_patterns"
    pictures = attributes.PATTERNS
    template = "a photo of a {} thing."
