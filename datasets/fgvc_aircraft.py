"""FGVC-Aircraft (Maji et al., 2013): 100 variants, in the official lists and their order."""

from dassl.data.datasets import DATASET_REGISTRY

from fdbpl.data.split_dataset import Item, Sizes, SplitDataset
from fdbpl.errors import UserError, quoted


@DATASET_REGISTRY.register()
class FGVCAircraft(SplitDataset):
    dataset_dir = "fgvc_aircraft"
    image_dir = "images"
    template = "a photo of a {}, a type of aircraft."
    official = Sizes(classes=100, train=3334, val=3333, test=3333)

    def read_split(self) -> dict[str, list[Item]]:
        """Labels are line numbers of variants.txt; a line of images_variant_*.txt is an image's number and variant.

        Raises:
            UserError: a list is missing or names something else.
        """
        labels = {name: label for label, name in enumerate(self.lines("variants.txt"))}
        splits: dict[str, list[Item]] = {}
        for part in ("train", "val", "test"):
            splits[part] = []
            for line in self.lines(f"images_variant_{part}.txt"):
                number, _, variant = line.partition(" ")
                if variant not in labels:
                    raise UserError(
                        f"expected an image's number and a variant of variants.txt in each line of "
                        f"{self.folder / f'images_variant_{part}.txt'}, found {quoted(line)}; {self.remedy}"
                    )
                splits[part].append((f"{number}.jpg", labels[variant], variant))
        return splits

    def lines(self, name: str) -> list[str]:
        """Lines of a file beside the images, without empty ones."""
        text = self.need(self.folder / name, "a list of FGVCAircraft").read_text(encoding="utf-8", errors="replace")
        return [line.strip() for line in text.splitlines() if line.strip()]
