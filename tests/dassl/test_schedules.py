"""Learning rates of each epoch, with and without a resume, compared with the official code; optimizers."""

import io
import json
import math

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.optim import build_lr_scheduler, build_optimizer


def build(case):
    cfg = get_cfg_default().OPTIM
    settings = {
        "NAME": "sgd", "LR": case["base_lr"], "MAX_EPOCH": case["max_epoch"], "LR_SCHEDULER": case["scheduler"],
        "STEPSIZE": case.get("stepsize", [-1]), "GAMMA": case.get("gamma", 0.1), "WARMUP_EPOCH": case["warmup_epoch"],
        "WARMUP_TYPE": "linear" if case["warmup"] == "linear" else "constant", "WARMUP_CONS_LR": case["warmup_lr"],
        "WARMUP_MIN_LR": case["warmup_lr"], "WARMUP_RECOUNT": case.get("warmup_recount", True),
    }  # fmt: skip
    cfg.merge_from_list([word for pair in settings.items() for word in pair])
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(2))], cfg)
    return optimizer, build_lr_scheduler(optimizer, cfg)


def rates(optimizer, scheduler, epochs):
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.fixture(scope="module")
def cases(parity):
    return json.loads((parity / "dassl.json").read_text())["lr"]["cases"]


def test_rates(cases):
    assert {case["scheduler"] for case in cases} == {"cosine", "single_step", "multi_step"}
    for case in cases:
        optimizer, scheduler = build(case)
        expected = [*case["lr"], case["after_last"]]
        assert rates(optimizer, scheduler, len(expected)) == pytest.approx(expected, rel=1e-9, abs=1e-15), case


def test_rates_after_a_resume(cases):
    for case in cases:
        for stop in {1, 2, case["max_epoch"] // 2, case["max_epoch"] - 1}:
            optimizer, scheduler = build(case)
            first = rates(optimizer, scheduler, stop)
            file = io.BytesIO()
            torch.save([optimizer.state_dict(), scheduler.state_dict()], file)
            file.seek(0)
            states = torch.load(file, weights_only=True)
            optimizer, scheduler = build(case)
            optimizer.load_state_dict(states[0])
            scheduler.load_state_dict(states[1])
            second = rates(optimizer, scheduler, case["max_epoch"] - stop)
            assert first + second == pytest.approx(case["lr"], rel=1e-9, abs=1e-15), (case, stop)


def test_cosine_with_one_warmup_epoch():
    case = {"scheduler": "cosine", "base_lr": 0.002, "max_epoch": 6, "warmup": "constant", "warmup_epoch": 1,
            "warmup_lr": 1e-5}  # fmt: skip
    found = rates(*build(case), 6)
    cosine = [0.001 * (1 + math.cos(math.pi * epoch / 6)) for epoch in range(5)]
    assert found == pytest.approx([1e-5, *cosine], rel=1e-12)


@pytest.mark.parametrize(("name", "kind"), [("sgd", "SGD"), ("adam", "Adam"), ("amsgrad", "Adam"), ("adamw", "AdamW"),
                                            ("rmsprop", "RMSprop"), ("radam", "RAdam")])  # fmt: skip
def test_optimizer_settings(name, kind):
    cfg = get_cfg_default().OPTIM
    cfg.NAME, cfg.LR, cfg.WEIGHT_DECAY = name, 0.5, 0.25
    optimizer = build_optimizer(torch.nn.Linear(2, 2), cfg)
    (group,) = optimizer.param_groups
    assert type(optimizer).__name__ == kind and len(group["params"]) == 2
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)
    assert group.get("amsgrad", False) == (name == "amsgrad")


def test_unknown_names_raise():
    cfg = get_cfg_default().OPTIM
    model = torch.nn.Linear(1, 1)
    cfg.NAME = "sdg"
    with pytest.raises(ValueError, match="sdg"):
        build_optimizer(model, cfg)
    cfg.NAME, cfg.LR_SCHEDULER = "sgd", "cosinus"
    with pytest.raises(ValueError, match="cosinus"):
        build_lr_scheduler(build_optimizer(model, cfg), cfg)
