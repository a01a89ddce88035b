"""Accuracy, error rate and macro-F1 over a test set."""

import os
from collections import OrderedDict, defaultdict

import torch
from dassl.utils import Registry, check_availability

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg, **kwargs):
    check_availability(cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)


class EvaluatorBase:
    """reset, process batch after batch, evaluate."""

    def __init__(self, cfg):
        self.cfg = cfg

    def reset(self) -> None:
        raise NotImplementedError

    def process(self, mo, gt) -> None:
        raise NotImplementedError

    def evaluate(self) -> OrderedDict:
        raise NotImplementedError


@EVALUATOR_REGISTRY.register()
class Classification(EvaluatorBase):
    """Evaluator of classification; prints to one decimal, returns full precision."""

    def __init__(self, cfg, lab2cname: dict | None = None, **kwargs):
        super().__init__(cfg)
        self._lab2cname = lab2cname
        if cfg.TEST.PER_CLASS_RESULT and lab2cname is None:
            raise ValueError("TEST.PER_CLASS_RESULT needs lab2cname")
        self.reset()

    def reset(self) -> None:
        self._correct = 0
        self._total = 0
        self._y_true: list[int] = []
        self._y_pred: list[int] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """`mo` logits [B, C], `gt` labels [B]."""
        predicted = mo.max(1)[1]
        self._correct += int((predicted == gt).sum().item())
        self._total += len(gt)
        self._y_true += gt.cpu().tolist()
        self._y_pred += predicted.cpu().tolist()

    def evaluate(self) -> OrderedDict:
        from sklearn.metrics import f1_score  # slow to import: not before it is needed

        accuracy = 100.0 * self._correct / self._total
        macro_f1 = 100.0 * f1_score(self._y_true, self._y_pred, average="macro", labels=sorted(set(self._y_true)))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=float(macro_f1))
        print(
            "=> result\n"
            f"* total: {self._total:,}\n"
            f"* correct: {self._correct:,}\n"
            f"* accuracy: {accuracy:.1f}%\n"
            f"* error: {results['error_rate']:.1f}%\n"
            f"* macro_f1: {macro_f1:.1f}%"
        )
        if self.cfg.TEST.PER_CLASS_RESULT:
            results["perclass_accuracy"] = self._per_class()
        if self.cfg.TEST.COMPUTE_CMAT:
            from sklearn.metrics import confusion_matrix

            matrix = torch.as_tensor(confusion_matrix(self._y_true, self._y_pred, normalize="true"))
            path = os.path.join(self.cfg.OUTPUT_DIR, "cmat.pt")
            torch.save(matrix, path)
            print(f"Confusion matrix is saved to {path}")
        return results

    def _per_class(self) -> float:
        hits = defaultdict(list)
        for truth, predicted in zip(self._y_true, self._y_pred, strict=True):
            hits[truth].append(truth == predicted)
        print("=> per-class result")
        accuracies = []
        for label in sorted(hits):
            total, correct = len(hits[label]), sum(hits[label])
            accuracies.append(100.0 * correct / total)
            name = self._lab2cname[label]
            print(f"* class: {label} ({name})\ttotal: {total:,}\tcorrect: {correct:,}\tacc: {accuracies[-1]:.1f}%")
        mean = sum(accuracies) / len(accuracies)
        print(f"* average: {mean:.1f}%")
        return mean
