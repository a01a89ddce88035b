"""Linear probe on the student's features in the region bank: `python -m tools.benchmark.linear_probe FLAGS`.

FLAGS are those of train.py for FDBPL. A logistic regression learns the labels from OPTIM.MAX_EPOCH regions of each
training image, as many as a training of that many epochs reads. It has no classifier for other classes.
"""

import contextlib
import io
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression

from fdbpl.engine.feature_cache import iterate_features
from fdbpl.engine.run import build_config
from fdbpl.errors import cli_error_handler
from fdbpl.io.atomic import write_json
from train import parse_arguments


def main() -> None:
    with cli_error_handler():
        cfg = build_config(parse_arguments())
        from dassl.engine import build_trainer

        with contextlib.redirect_stdout(io.StringIO()):
            trainer = build_trainer(cfg)
            trainer.build_supervision()
            accuracy = probe(trainer, cfg.OPTIM.MAX_EPOCH)
        write_json(Path(cfg.OUTPUT_DIR, "metrics.json"), {"accuracy": accuracy})
        print(f"accuracy: {accuracy:.2f} %")


@torch.no_grad()
def probe(trainer, regions: int) -> float:
    """Return the test accuracy in percent of a probe on the first `regions` regions of each training image."""
    labels = torch.tensor([item.label for item in trainer.dm.dataset.train_x])
    image = torch.arange(len(labels)).repeat_interleave(regions)
    region = torch.arange(regions).repeat(len(labels))
    features = trainer.supervision.lookup.student_features(image, region)
    classifier = LogisticRegression(C=1.0, max_iter=1000)  # C: best of 0.1 to 1000 on the demo's validation draw
    classifier.fit(features.numpy(), labels[image].numpy())
    trainer.set_model_mode("eval")
    tests = iterate_features(trainer.cfg, trainer.student, trainer.test_loader, trainer.parse_batch_test)
    tested, expected = (torch.cat(parts).cpu().numpy() for parts in zip(*tests, strict=True))
    return 100 * classifier.score(tested, expected)


if __name__ == "__main__":
    main()
