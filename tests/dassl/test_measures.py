"""Evaluator, meters and accuracy: text and numbers of the official code."""

import json

import pytest
import torch
from dassl.config import get_cfg_default
from dassl.evaluation import build_evaluator
from dassl.metrics import compute_accuracy
from dassl.utils import AverageMeter, MetricMeter


@pytest.fixture(scope="module")
def reference(parity):
    return json.loads((parity / "dassl.json").read_text())


def test_evaluator(reference, capsys):
    for case in reference["evaluator"]["cases"]:
        cfg = get_cfg_default()
        cfg.VERBOSE, cfg.TEST.PER_CLASS_RESULT = False, case["per_class"]
        evaluator = build_evaluator(cfg, lab2cname=dict(enumerate(case["classnames"])))
        labels = torch.tensor(case["labels"])
        if case["logits"] is not None:
            logits = torch.tensor(case["logits"])
        else:
            logits = torch.nn.functional.one_hot(torch.tensor(case["predictions"]), case["n_classes"]).float()
        evaluator.process(torch.zeros(1, case["n_classes"]), torch.tensor([0]))
        evaluator.reset()  # forgets the previous batch
        capsys.readouterr()
        for rows, truth in zip(logits.split(9), labels.split(9), strict=True):
            evaluator.process(rows, truth)
        results = evaluator.evaluate()
        assert capsys.readouterr().out == case["printed"]
        assert next(iter(results)) == "accuracy"
        assert dict(results) == pytest.approx(case["returned"], abs=1e-9)


def test_metric_meter(reference):
    meter = MetricMeter()
    for update, text in zip(reference["metric_meter"]["updates"], reference["metric_meter"]["text"], strict=True):
        meter.update({"loss": torch.tensor(update["loss"]), "acc": update["acc"]})
        assert str(meter) == text
    meter.update(None)
    assert str(meter) == text
    with pytest.raises(TypeError):
        meter.update([1.0])


def test_average_meter():
    plain, moving = AverageMeter(), AverageMeter(ema=True)
    for value, count in ((1.0, 1), (4.0, 2)):
        plain.update(value, count)
        moving.update(value)
    assert (plain.val, plain.sum, plain.count, plain.avg) == (4.0, 9.0, 3, 3.0)
    assert moving.avg == pytest.approx(0.9 * 0.1 * 1.0 + 0.1 * 4.0)


def test_compute_accuracy(reference):
    case = reference["compute_accuracy"]
    (top1,) = compute_accuracy(torch.tensor(case["logits"]), torch.tensor(case["labels"]))
    assert top1.tolist() == case["top1"]
    (top1,) = compute_accuracy([torch.tensor(case["logits"])], torch.tensor(case["labels"]))
    assert top1.tolist() == case["top1"]
