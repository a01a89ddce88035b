"""The hashed split of the images of a class: proportions, minimum sizes and stability."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdbpl.data.custom.split import hashed_split

SHARES = (0.5, 0.2, 0.3)
names = st.lists(st.text("abc01 é/", min_size=1, max_size=8), min_size=3, max_size=40, unique=True)
shares = st.sampled_from([SHARES, (0.8, 0.1, 0.1), (0.01, 0.0, 0.99), (0.98, 0.01, 0.01), (1 / 3, 1 / 3, 1 / 3)])


@pytest.mark.parametrize(
    ("count", "expected"),
    [(2, (1, 0, 1)), (3, (2, 0, 1)), (4, (2, 1, 1)), (5, (3, 1, 1)), (10, (5, 2, 3)), (100, (50, 20, 30))],
)
def test_proportions(count, expected):
    parts = Counter(hashed_split([f"dog/{k}.jpg" for k in range(count)], SHARES).values())
    assert tuple(parts[part] for part in ("train", "val", "test")) == expected


@settings(max_examples=200, deadline=None)
@given(names, shares)
def test_a_new_image_moves_at_most_one_image_per_boundary(paths, of):
    *before, new = paths
    old, now = hashed_split(before, of), hashed_split(paths, of)
    moved = [path for path in before if old[path] != now[path]]
    assert len(moved) <= 2
    for parts in (old, now):
        assert {"train", "test"} <= set(parts.values())


@settings(max_examples=50, deadline=None)
@given(names, st.randoms())
def test_the_order_of_the_paths_has_no_effect(paths, random):
    shuffled = random.sample(paths, len(paths))
    assert hashed_split(paths, SHARES) == hashed_split(shuffled, SHARES)


def test_the_split_is_the_same_on_every_machine():
    """A change of these values would change the splits of all users."""
    parts = hashed_split([f"cat/{k}.jpg" for k in range(10)], SHARES)
    assert [number for number in range(10) if parts[f"cat/{number}.jpg"] == "test"] == [6, 7, 9]
