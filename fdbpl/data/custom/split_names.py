"""The usual names of the training, validation and test splits, in any case and spelling."""

import re
from collections.abc import Iterable

_USUAL = re.compile(
    "(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?|eval(?:uation)?)|(?P<test>test(?:ing)?))"
    "(?:data|(?:data)?set|split|images?|imgs?)?"
)


def split_of(name: str) -> str:
    """train, val or test where `name` is a usual name of that split, e.g. Training_set or VALID; otherwise ""."""
    found = _USUAL.fullmatch(re.sub(r"[\W\d_]", "", name.casefold()))
    return (found.lastgroup or "") if found else ""


def contains_splits(names: Iterable[str]) -> bool:
    """Whether words in `names` name the training split and another one, e.g. seg_train and seg_test."""
    splits = {split_of(word) for name in names for word in re.split(r"[\W\d_]+", name)} - {""}
    return "train" in splits and len(splits) > 1
