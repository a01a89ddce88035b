"""FGVC-Aircraft (Maji et al., 2013): aircraft variants, with the official lists instead of a split file."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.rows import Item
from fdbpl.data.split_dataset import Sizes, SplitDataset
from fdbpl.errors import UserError, quoted


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    config_name = "fgvc_aircraft"
    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    template = "a photo of a {}, a type of aircraft."
    official = Sizes(classes=100, train=3334, val=3333, test=3333)

    def read_split(self) -> dict[str, list[Item]]:
        """Read images_variant_*.txt, whose lines are an image number and a variant; labels are lines of variants.txt.

        Raises:
            UserError: a list is missing, or a line has another form.
        """
        labels = {name: label for label, name in enumerate(self.lines("variants.txt"))}
        splits: dict[str, list[Item]] = {}
        for part in ("train", "val", "test"):
            splits[part] = []
            for line in self.lines(f"images_variant_{part}.txt"):
                number, _, variant = line.partition(" ")
                if variant not in labels:
                    raise UserError(
                        f"the line {quoted(line)} of {self.folder / f'images_variant_{part}.txt'} is not an image "
                        f"number and a variant of variants.txt; {self.remedy}"
                    )
                splits[part].append((f"{number}.jpg", labels[variant], variant))
        return splits

    def lines(self, name: str) -> list[str]:
        """Return the non-empty lines of a list in the data set's folder."""
        text = self.need(self.folder / name, "a list of FGVCAircraft").read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]
