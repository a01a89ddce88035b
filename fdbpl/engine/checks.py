"""Checks of the data before a training."""

from yacs.config import CfgNode

from fdbpl.errors import UserError


def assert_no_test_leakage(cfg: CfgNode, dataset) -> None:
    """Refuse a training that would read the test images.

    A data set for tests only (the shifts of ImageNet, as in CoOp) passes its test images to Dassl as training images,
    because Dassl takes the class names from them. ImageNet has no validation images, or (CoOp) its test images.

    Raises:
        UserError: the training images are the test images, or the validation images that select the model are.
    """
    if dataset.train_x is dataset.test:
        raise UserError(
            f"{cfg.DATASET.NAME} is a data set for tests only. Train on another data set, and test that run on this "
            "one with --eval-only --model-dir RUN"
        )
    if cfg.TEST.FINAL_MODEL == "best_val" and (not dataset.val or dataset.val is dataset.test):
        raise UserError(
            f"TEST.FINAL_MODEL best_val selects the model by validation images, but {cfg.DATASET.NAME} has only test "
            "images; set TEST.FINAL_MODEL last_step"
        )
