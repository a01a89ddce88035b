"""ImageNet's classes under another distribution: for tests of what was learnt on ImageNet, under its class names."""

from pathlib import Path

from fdbpl.data.split_dataset import Item, SplitDataset
from fdbpl.data.synsets import class_folders, list_rows, read_classnames
from fdbpl.errors import UserError, quoted


class ImageNetShift(SplitDataset):
    """Folders of synsets, relabelled from 0 in sorted order: ImageNet-A and -R hold 200 of the 1000 classes."""

    template = "a photo of a {}."
    test_only = True
    distinct_names = False

    def read_split(self) -> dict[str, list[Item]]:
        return {"train": [], "val": [], "test": list_rows(self.images, self.folders(self.synset_names()))}

    def folders(self, names: dict[str, str]) -> list[tuple[str, str]]:
        """Folder and class name of each label."""
        return class_folders(self.images, names, self.remedy)

    def synset_names(self) -> dict[str, str]:
        """From the data set's own classnames.txt, or from ImageNet's where it has none.

        Raises:
            UserError: there is neither, or the two disagree: prompts would meet other names than in training.
        """
        own, imagenet = self.folder / "classnames.txt", Path(self.root, "imagenet", "classnames.txt")
        names = {file: read_classnames(file, self.remedy) for file in (own, imagenet) if file.is_file()}
        if not names:
            raise UserError(f"expected ImageNet's class names at {own} or {imagenet}, found neither; {self.remedy}")
        if len(names) == 2:
            other = [synset for synset, name in names[own].items() if names[imagenet].get(synset, name) != name]
            if other:
                raise UserError(
                    f"expected the class names of {imagenet} in {own}, found {quoted(names[own][other[0]])} instead of "
                    f"{quoted(names[imagenet][other[0]])} for {other[0]}; delete the latter file"
                )
        return next(iter(names.values()))

    def check_images(self, paths: list[str]) -> None:
        """They have just been listed."""
