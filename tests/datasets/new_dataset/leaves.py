"""Example of a new data set: images of leaves, listed in leaves/split.csv with the columns split, file, class name."""

import csv

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Item, SplitDataset


@DATASET_REGISTRY.register()
class Leaves(SplitDataset):
    dataset_dir = "leaves"
    image_dir = "images"
    split_file = "split.csv"
    template = "a photo of a {} leaf."

    def read_split(self) -> dict[str, list[Item]]:
        """Read the CSV file. A data set with a split file in CoOp's format does not need this method."""
        path = self.need(self.split_path, "the list of the leaves")
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        labels = {name: label for label, name in enumerate(sorted({name for _, _, name in rows}))}
        return {
            part: [(image, labels[name], name) for split, image, name in rows if split == part]
            for part in ("train", "val", "test")
        }
