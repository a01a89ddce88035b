"""Usual names of the columns of tables, and the columns that dataset.yaml names."""

from fdbpl.data.custom.description import Description
from fdbpl.data.custom.text_table import Table
from fdbpl.errors import UserError, enumerated, quoted

PATH_NAMES = (
    "path", "file_name", "filename", "file_path", "filepath", "file", "image", "image_path", "imagepath", "img",
    "img_path", "image_name", "imagename", "image_file", "image_filename", "images", "image_id", "imageid", "img_id",
    "id", "photo", "uuid", "name",
)  # fmt: skip
CLASS_NAMES = (
    "class", "class_name", "classname", "label_name", "labelname", "category_name", "canonical_class", "label",
    "category", "species", "breed", "target", "labels", "classes", "class_label", "ground_truth", "y", "class_id",
    "label_id", "category_id", "tag",
)  # fmt: skip


def given_column(table: Table, description: Description, what: str) -> int | None:
    """Return the number of the column that dataset.yaml names for `what`; None if it names none.

    Args:
        what: path, class or split.

    Raises:
        UserError: the table has no such column.
    """
    name = description.columns.get(what, "").lower()
    if not name:
        return None
    if name in table.columns:
        return table.columns.index(name)
    if name.isdecimal() and 0 < int(name) <= len(table.columns):
        return int(name) - 1
    columns = enumerated(map(quoted, table.columns), 8)
    raise UserError(f"{table.file} has no column {name!r} as {description.file} says (it has {columns}); correct it")
