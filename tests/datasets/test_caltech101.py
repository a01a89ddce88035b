"""CoOp's layout on real photographs."""

import shlex

import pytest

from datasets.catalog import Caltech101
from fdbpl.errors import UserError

from .trees import config as config_of


def config(root, cache, shots=16, seed=1, subsample="all"):
    cfg = config_of(root, shots, subsample, seed)
    cfg.DATASET.FEWSHOT_DIR = str(cache)
    return cfg


@pytest.mark.parametrize(("subsample", "classes"), [("all", 100), ("base", 50), ("new", 50)])
def test_photographs(photographs, tmp_path, subsample, classes):
    dataset = Caltech101(config(photographs, tmp_path, 4, 1, subsample))
    assert len(dataset.classnames) == dataset.num_classes == classes
    assert len(dataset.all_classnames) == 100
    assert len(dataset.train_x) == 4 * classes and len(dataset.test) == 5 * classes
    assert {item.label for item in dataset.test} == set(range(classes))
    assert dataset.protocol["train_images"] == len(dataset.train_x)


def test_base_and_new_are_the_two_halves_of_one_draw(photographs, tmp_path):
    halves = [Caltech101(config(photographs, tmp_path, 4, 1, half)) for half in ("base", "new")]
    whole = Caltech101(config(photographs, tmp_path, 4, 1, "all"))
    images = [{item.impath for item in dataset.train_x} for dataset in (*halves, whole)]
    assert images[0] | images[1] == images[2] and not images[0] & images[1]
    assert halves[0].classnames + halves[1].classnames == whole.classnames == whole.all_classnames


def test_the_list_is_drawn_once_and_differs_between_seeds(photographs, tmp_path):
    first = Caltech101(config(photographs, tmp_path, 2, 1))
    again = Caltech101(config(photographs, tmp_path, 2, 1))
    other = Caltech101(config(photographs, tmp_path, 2, 2))
    paths = [[item.impath for item in dataset.train_x] for dataset in (first, again, other)]
    assert paths[0] == paths[1] != paths[2]
    lists = photographs / "caltech-101" / "split_fewshot"
    assert sorted(file.name for file in lists.iterdir()) == ["shot_2-seed_1.json", "shot_2-seed_2.json"]


def test_a_root_without_the_data_set(tmp_path):
    root = tmp_path / "my data"
    root.mkdir()
    with pytest.raises(UserError) as error:
        Caltech101(config(root, tmp_path))
    assert str(error.value) == (
        f"the folder of Caltech101 is missing: there is no {root / 'caltech-101'}; "
        f"run: bash scripts/prepare_data.sh caltech101 --root {shlex.quote(str(root))}"
    )
    with pytest.raises(UserError, match="the data root .* is missing"):
        Caltech101(config(tmp_path / "nowhere", tmp_path))
