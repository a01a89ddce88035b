"""Test images stay out of training: nothing is learnt from them, and no epoch is chosen by them."""

from yacs.config import CfgNode

from fdbpl.errors import UserError


def keep_test_images_out(cfg: CfgNode, dataset) -> None:
    """Refuse a training that would read the test images.

    A data set for tests only (ImageNet's shifts, here and in CoOp) gives Dassl its test images as training images, for
    the class names to be taken from. ImageNet has no validation images, or gives its test images as such (CoOp).

    Raises:
        UserError: the training images or, where they choose the model, the validation images are the test images.
    """
    if dataset.train_x is dataset.test:
        raise UserError(
            f"expected a data set to train on, found {cfg.DATASET.NAME}, which is for tests only; train on another one "
            "and test that run on this one with --eval-only --model-dir RUN"
        )
    if cfg.TEST.FINAL_MODEL == "best_val" and (not dataset.val or dataset.val is dataset.test):
        raise UserError(
            f"expected validation images in {cfg.DATASET.NAME} to choose a model by (TEST.FINAL_MODEL best_val), found "
            "only test images; set TEST.FINAL_MODEL last_step"
        )
