"""The ten colours of the demo world's things: other classes than Demo's, to test on or to learn."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.demo import DrawnDataset
from fdbpl.demo.colours import COLOURS


@DATASET_REGISTRY.register()
class DemoColours(DrawnDataset):
    dataset_dir = "demo_colours"
    pictures = COLOURS
