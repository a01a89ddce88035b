"""The demo world's 28 names in other pictures, for domain generalization: learn on Demo, test on these."""

from dassl.data.datasets import DATASET_REGISTRY

from datasets.demo import DrawnDataset
from fdbpl.demo import shifts


@DATASET_REGISTRY.register()
class DemoSketch(DrawnDataset):
    dataset_dir = "demo_sketch"
    pictures = shifts.SKETCH
    test_only = True


@DATASET_REGISTRY.register()
class DemoWorld(DrawnDataset):
    dataset_dir = "demo_world"
    pictures = shifts.WORLD
    test_only = True


@DATASET_REGISTRY.register()
class DemoCorrupted(DrawnDataset):
    dataset_dir = "demo_corrupted"
    pictures = shifts.CORRUPTED
    test_only = True
