"""Reader of class folders: FOLDER/CLASS/... or FOLDER/SPLIT/CLASS/..."""

from collections import Counter
from pathlib import Path

from fdbpl.data.custom.description import FILE_NAMES, Description
from fdbpl.data.custom.folders import entries, is_folder, list_images, visible_folders
from fdbpl.data.custom.listing import LabelledImage, Listing, relative_path
from fdbpl.data.custom.split_names import contains_splits, split_of
from fdbpl.errors import UserError, enumerated
from fdbpl.io.image_files import Skipped, images_below, is_hidden


class ClassFolders:
    """Images in one sub-folder per class, optionally in one folder per split."""

    format = "class folders"

    def __init__(self, folder: Path, description: Description):
        self.folder = folder
        self.description = description
        self.listing = Listing(self.format, folder)

    def read(self) -> Listing:
        """List the labelled images.

        Raises:
            UserError: there are no class folders, one is empty, or whether a folder is a class or a split is unclear.
        """
        inner = self._subfolders(self.folder)
        splits = self._split_folders(inner)
        if splits:
            classes = self._classes_of_splits(inner, splits)
        else:
            classes = dict.fromkeys(inner, "")
            self._check_class_names(inner)
            if len(inner) == 1 and has_class_folders(inner[0], self.description):
                raise UserError(
                    f"{self.folder} has only the sub-folder {inner[0].name}, whose sub-folders look like the classes; "
                    f"give {inner[0]}"
                )
        if not classes:
            raise UserError(
                f"{self.folder} has no sub-folders, one of which is needed for each class; sort the images into "
                "folders named after their classes, give a CSV of path,class, or, if the file names contain the "
                f"class, write layout: '{{class}}_*.jpg' in {self.description.file}"
            )
        self._check_nesting(list(classes))
        for path, split in classes.items():
            for file in list_images(path, self.listing):
                self.listing.images.append(LabelledImage(relative_path(self.folder, file), path.name, split))
        empty = sorted({path.name for path in classes} - {image.label for image in self.listing.images})
        if empty:
            skipped = self.listing.skipped_summary()
            raise UserError(
                f"the class folders {enumerated(empty, 3)} of {self.folder} hold no images"
                f"{f' (skipped: {skipped})' if skipped else ''}; add some or remove the folders"
            )
        return self.listing

    def _split_folders(self, inner: list[Path]) -> dict[Path, str]:
        """Return {sub-folder: split}; empty unless there are folders for training and for validation or testing."""
        splits = {path: split_of(path.name) for path in inner if path.name not in self.description.classes}
        splits = {path: split for path, split in splits.items() if split}
        if "train" not in splits.values() or set(splits.values()) == {"train"}:
            return {}
        for split, count in Counter(splits.values()).items():
            if count > 1:
                names = enumerated([path.name for path, other in splits.items() if other == split], 3)
                raise UserError(f"{self.folder} has several folders for the {split} split ({names}); keep one of them")
        return splits

    def _classes_of_splits(self, inner: list[Path], splits: dict[Path, str]) -> dict[Path, str]:
        """Return {class folder: split}; a test folder without class folders is left out."""
        for path in set(inner) - splits.keys():
            self.listing.skip(str(path), "a folder that is no split")
        classes = {}
        labelled = []
        for path, split in splits.items():
            if self._subfolders(path, count=False):
                labelled.append(path.name)
                classes.update(dict.fromkeys(self._subfolders(path), split))
            elif split == "train":
                raise UserError(
                    f"{path} has no class folders, so its images have no class; sort them into some, or, if the file "
                    f"names contain the class, write layout: '{path.name}/{{class}}.*.jpg' in {self.description.file}"
                )
            else:
                self.listing.leave_out_unlabelled(
                    path, list_images(path, self.listing), "in a folder without class folders"
                )
        if len(labelled) == 1:
            return dict.fromkeys(classes, "")  # only the training images have classes: they are split
        self.listing.split_source = f"folders {', '.join(sorted(labelled))}"
        return classes

    def _check_class_names(self, classes: list[Path]) -> None:
        unlisted = [path.name for path in classes if path.name not in self.description.classes]
        suspects = [name for name in unlisted if split_of(name)] or (unlisted if contains_splits(unlisted) else [])
        if suspects:
            raise UserError(
                f"the sub-folders {enumerated(suspects, 3)} of {self.folder} are named like splits, not like classes; "
                "arrange the images as train/CLASS and test/CLASS, or give one of them as the folder of images, or, if "
                f"they are classes, list them under classes in {self.description.file}"
            )

    def _check_nesting(self, classes: list[Path]) -> None:
        """Refuse sub-folders that all classes share, which may be the classes, and those named like splits."""
        description = self.description
        if description.split_patterns:
            return
        inner = {path: {below.name for below in self._subfolders(path, count=False)} for path in classes}
        for path, names in inner.items():
            splits = sorted(name for name in names if split_of(name))
            if splits and not description.split_shares:
                raise UserError(
                    f"the class folder {path} has sub-folders named like splits ({enumerated(splits, 3)}); arrange the "
                    f"images as train/CLASS and test/CLASS, or write layout: '{{class}}/{{split}}/*' in "
                    f"{description.file}"
                )
        common = set.intersection(*inner.values())
        unlisted = {path.name for path in classes} - description.classes.keys()
        if len(classes) > 1 and len(common) > 1 and all(names == common for names in inner.values()) and unlisted:
            folders = enumerated([path.name for path in classes], 3)
            raise UserError(
                f"all sub-folders of {self.folder} ({folders}) have the same sub-folders "
                f"({enumerated(sorted(common), 3)}), which may be the classes; give one of them as the folder of "
                f"images, or write layout: '*/{{class}}/*' in {description.file} to use all, or, if the outer folders "
                "are the classes, list them under classes there"
            )
        nested = sorted({name for names in inner.values() for name in names})
        if len(nested) > 1 and not description.classes:
            self.listing.guesses.append(
                f"images in sub-folders of a class folder ({enumerated(nested, 3)}) belong to that class; for the "
                f"sub-folders as classes write layout: '{'*/' if not self.listing.split_source else '{split}/*/'}"
                f"{{class}}/*' in {description.file.name}"
            )

    def _subfolders(self, folder: Path, count: bool = True) -> list[Path]:
        """List visible sub-folders; other entries are recorded as skipped if `count`."""
        inside = []
        for entry in entries(folder):
            if is_hidden(entry.name):
                self.listing.hidden += count
            elif is_folder(entry):
                inside.append(Path(entry.path))
            elif count and entry.name not in FILE_NAMES:
                self.listing.skip(entry.path, "outside of the class folders")
        return inside


def has_class_folders(folder: Path, description: Description) -> bool:
    """Return whether a folder looks like class folders, of which at least two hold images."""
    inner = visible_folders(folder)
    splits = [path for path in inner if split_of(path.name) and path.name not in description.classes]
    if len({split_of(path.name) for path in splits}) > 1:
        inner = [below for path in splits for below in visible_folders(path)]
    elif splits and len(splits) == len(inner):
        return False
    holding: set[str] = set()
    for path in inner:
        if path.name not in holding and images_below(str(path), Skipped()):
            holding.add(path.name)
        if len(holding) > 1:
            return True
    return False
