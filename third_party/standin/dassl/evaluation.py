"""Accuracy, error rate and macro-F1 on a test set."""

import os
from collections import OrderedDict, defaultdict

import torch
from dassl.utils import Registry, check_availability

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg, **kwargs):
    """Construct the evaluator that `cfg.TEST.EVALUATOR` names."""
    check_availability(cfg.TEST.EVALUATOR, EVALUATOR_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading evaluator: {cfg.TEST.EVALUATOR}")
    return EVALUATOR_REGISTRY.get(cfg.TEST.EVALUATOR)(cfg, **kwargs)


@EVALUATOR_REGISTRY.register()
class Classification:
    """Evaluator of classification. It prints one decimal and returns full precision."""

    def __init__(self, cfg, lab2cname: dict | None = None, **kwargs):
        self.cfg = cfg
        self._lab2cname = lab2cname
        self.reset()

    def reset(self) -> None:
        """Forget all processed batches."""
        self._y_true: list[int] = []
        self._y_pred: list[int] = []

    def process(self, mo: torch.Tensor, gt: torch.Tensor) -> None:
        """Add a batch of logits `mo` [B, C] and labels `gt` [B]."""
        self._y_true += gt.cpu().tolist()
        self._y_pred += mo.max(1)[1].cpu().tolist()

    def evaluate(self) -> OrderedDict:
        """Print and return the results, in percent."""
        from sklearn.metrics import f1_score  # the import is slow

        total = len(self._y_true)
        correct = sum(truth == predicted for truth, predicted in zip(self._y_true, self._y_pred, strict=True))
        accuracy = 100.0 * correct / total
        macro_f1 = 100.0 * f1_score(self._y_true, self._y_pred, average="macro", labels=sorted(set(self._y_true)))
        results = OrderedDict(accuracy=accuracy, error_rate=100.0 - accuracy, macro_f1=float(macro_f1))
        print(
            "=> result\n"
            f"* total: {total:,}\n"
            f"* correct: {correct:,}\n"
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
