"""Program for torchrun: trains the configurations (*.yaml) of a folder; the main process writes the results."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from third_party import use_dassl  # noqa: E402

use_dassl()

import torch  # noqa: E402
import yaml  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from fdbpl import distributed  # noqa: E402
from fdbpl.errors import cli_error_handler  # noqa: E402
from fdbpl.io.atomic import write_json  # noqa: E402


def check_gather() -> None:
    """Compare gradients with closed forms: a parameter before and after a gather, and before two gathers."""
    for total in (7, 2, 1):
        rows = torch.arange(1.0, 1.0 + total, dtype=torch.float64)
        a = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
        whole = distributed.gather(a * distributed.shard(rows), total)
        assert torch.equal(whole.detach(), 3 * rows), whole
        ((a * whole) ** 2).sum().backward()  # a^4 sum c^2
        distributed.average_gradients([a])
        torch.testing.assert_close(a.grad, 4 * 27 * (rows**2).sum())
        a.grad = None
        whole = distributed.gather(a * distributed.shard(rows), total)
        twice = distributed.gather(distributed.shard(rows) * whole.sum() ** 2, total)
        (twice**2).sum().backward()  # a^4 (sum c)^4 sum c^2
        distributed.average_gradients([a])
        torch.testing.assert_close(a.grad, 4 * 27 * rows.sum() ** 4 * (rows**2).sum())
    across = distributed.gather(distributed.shard(torch.arange(5.0)).expand(2, -1), 5, dim=-1)
    assert torch.equal(across, torch.arange(5.0).expand(2, -1))
    with distributed.local_only():
        assert distributed.world_size() == 1 and len(distributed.shard(torch.ones(5))) == 5


def check_all_reduce() -> None:
    """Check sums over the processes."""
    world = distributed.world_size()
    assert distributed.all_reduce_sum(distributed.rank() + 1, 2) == [world * (world + 1) // 2, 2 * world]


def check_unseeded_epochs() -> None:
    """Check that without a seed all processes draw the same numbers."""
    from fdbpl.engine.seeding import seed_epoch

    draws = []
    for _ in range(2):
        seed_epoch(-1, 0)
        draws.append(torch.rand(3, dtype=torch.float64))
        everywhere = distributed.gather(draws[-1][None], distributed.world_size())
        assert torch.equal(everywhere, draws[-1].expand_as(everywhere)), "the processes draw different batches"
    assert not torch.equal(*draws)


def conftest():
    spec = importlib.util.spec_from_file_location("tiny", ROOT / "tests" / "trainers" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: Path) -> None:
    from dassl.config import get_cfg_default
    from dassl.engine import build_trainer

    import datasets
    from fdbpl.config import flatten, merge
    from fdbpl.engine import registry

    conftest().register_tiny_dataset()
    distributed.start(use_gpu=False)
    check_gather()
    check_all_reduce()
    check_unseeded_epochs()
    for file in sorted(folder.glob("*.yaml")):
        cfg = get_cfg_default()
        datasets.extend_cfg(cfg)
        registry.extend_cfg(cfg)
        merge(cfg, flatten(yaml.safe_load(file.read_text())), str(file))
        cfg.freeze()
        trainer = build_trainer(cfg)
        trainer.train()
        state = {f"{name}.{key}": value for name, module in trainer._models.items()
                 for key, value in module.state_dict().items()}  # fmt: skip
        every = torch.cat([value.double().reshape(-1) for value in state.values()])
        (mean,) = distributed.all_reduce_mean([every])
        assert torch.equal(mean, every), "the parameters differ between processes"
        if distributed.is_main_process():
            save_file({key: value.contiguous() for key, value in state.items()}, file.with_suffix(".safetensors"))
            write_json(file.with_suffix(".json"), trainer.results)
    distributed.stop()


if __name__ == "__main__":
    with cli_error_handler():
        main(Path(sys.argv[1]))
