"""Reader of folders by the layout of dataset.yaml, e.g. */{class}/*."""

from pathlib import Path

from fdbpl.data.custom.description import Description
from fdbpl.data.custom.folders import list_images
from fdbpl.data.custom.listing import LabelledImage, Listing, relative_path
from fdbpl.data.custom.path_pattern import layout_pattern
from fdbpl.data.custom.split_names import split_of
from fdbpl.errors import UserError, quoted


class Layout:
    """Images whose paths contain the class, and optionally the split, by a pattern."""

    format = "class folders"

    def __init__(self, folder: Path, description: Description):
        self.folder = folder
        self.description = description

    def read(self) -> Listing:
        """List the labelled images.

        Raises:
            UserError: no image fits the layout.
        """
        listing = Listing(self.format, self.folder)
        pattern = layout_pattern(self.description.layout)
        for file in list_images(self.folder, listing):
            path = relative_path(self.folder, file)
            match = pattern.fullmatch(path)
            split = match.groupdict().get("split") if match else None
            if not match:
                listing.skip(file, f"outside of the layout {self.description.layout}")
            elif split is None:
                listing.images.append(LabelledImage(path, match["label"]))
            elif part := self.description.split_values.get(split) or split_of(split):
                listing.images.append(LabelledImage(path, match["label"], part))
            else:
                listing.skip(file, f"in the folder {split}, which is no split")
        if not listing.images:
            raise UserError(
                f"no image of {self.folder} fits the layout {quoted(self.description.layout)} of "
                f"{self.description.file}; correct the layout"
            )
        if "{split}" in self.description.layout:
            listing.split_source = f"folders by the layout {self.description.layout}"
        return listing
