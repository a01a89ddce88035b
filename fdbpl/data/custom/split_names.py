"""The parts of a split, and their usual names in folders, files and tables."""

import re
from collections.abc import Iterable

PARTS = ("train", "val", "test")
_USUAL = re.compile(
    "(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|eval(?:uation)?)|(?P<test>test(?:ing)?))"
    "(?:data|(?:data)?set|split|images?|imgs?|labels?|metadata)?"
)


def split_of(name: str) -> str:
    """Return train, val or test for a usual name of that part, e.g. Training_set or VALID; otherwise ""."""
    match = _USUAL.fullmatch(re.sub(r"[\W\d_]", "", name.casefold()))
    return (match.lastgroup or "") if match else ""


def contains_splits(names: Iterable[str]) -> bool:
    """Return whether words in `names` name the training split and another one, e.g. seg_train and seg_test."""
    splits = {split_of(word) for name in names for word in re.split(r"[\W\d_]+", name)} - {""}
    return "train" in splits and len(splits) > 1
