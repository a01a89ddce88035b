"""--deterministic: recorded in the metrics, not part of a run's identity, and without effect on results on a CPU."""

import pytest
import torch

from fdbpl.determinism import deterministic_algorithms
from fdbpl.errors import UserError

from .methods import learned, one_of_each_student, same


@pytest.mark.parametrize("name", one_of_each_student())
def test_results_on_a_cpu_are_unchanged(name, build_shared):
    settings = {"OPTIM.MAX_EPOCH": 1}
    free = build_shared(name, f"free/{name}", **settings)
    free.train()
    with deterministic_algorithms():
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        bound = build_shared(name, f"bound/{name}", **settings)
        bound.train()
    assert same(learned(free), learned(bound)) and free.results == bound.results
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_operation_without_a_deterministic_algorithm():
    values, places = torch.nn.functional.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
    message = "--deterministic cannot be used here, .*max_unpool"
    with pytest.raises(UserError, match=message), deterministic_algorithms():
        torch.nn.functional.max_unpool2d(values, places, 2)
    torch.nn.functional.max_unpool2d(values, places, 2)
    with pytest.raises(RuntimeError, match="another mistake"), deterministic_algorithms():
        raise RuntimeError("another mistake")


def test_the_flag_is_recorded_and_not_part_of_the_identity(train_py, capsys):
    folder = train_py("CoOp", "run", "--deterministic")
    assert "Deterministic algorithms only: yes" in (folder / "log.txt").read_text()
    assert train_py.metrics(folder)["deterministic"] is True
    capsys.readouterr()
    train_py("CoOp", "run")
    assert "is finished" in capsys.readouterr().out
    other = train_py("CoOp", "other")
    assert train_py.metrics(other)["deterministic"] is False
    assert train_py.metrics(other)["accuracy"] == train_py.metrics(folder)["accuracy"]
    capsys.readouterr()
    train_py("CoOp", "other", "--deterministic")
    assert "(without --deterministic; delete it to run again)" in capsys.readouterr().out
    assert not torch.are_deterministic_algorithms_enabled()
