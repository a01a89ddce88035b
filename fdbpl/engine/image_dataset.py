"""Images of Dassl's loaders, decoded according to INPUT.EXIF_ORIENTATION and INPUT.WHITE_BACKGROUND."""

from dassl.data.data_manager import DatasetWrapper
from yacs.config import CfgNode

from fdbpl.io.image_reading import STORED, Decoding, UnreadableImage, read_image


def decoding_of(cfg: CfgNode) -> Decoding:
    """Return the decoding of a configuration's images."""
    return Decoding(cfg.INPUT.EXIF_ORIENTATION, cfg.INPUT.WHITE_BACKGROUND)


def dataset_wrapper(cfg: CfgNode) -> type[DatasetWrapper] | None:
    """Return the `dataset_wrapper` for Dassl's loaders; None (Dassl's own) for images that are read as stored."""
    return None if decoding_of(cfg) == STORED else ImageDataset


class ImageDataset(DatasetWrapper):
    """Items as in Dassl's `DatasetWrapper`, with one view of each image."""

    def __getitem__(self, index: int) -> dict:
        item = self.data_source[index]
        try:
            image = read_image(item.impath, decoding=decoding_of(self.cfg))
        except UnreadableImage as error:
            raise OSError(f"{item.impath}: {error}") from error  # as Pillow under Dassl
        return {
            "label": item.label,
            "domain": item.domain,
            "impath": item.impath,
            "index": index,
            "img": image if self.transform is None else self.transform(image),
        }
