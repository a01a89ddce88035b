"""Export a trained run as a classifier that works without this package: `python -m fdbpl.export RUN`.

    python -m fdbpl.export output/train_all/demo/shots_16/FDBPL/demo/seed1 --to classifier
    python -m fdbpl.export RUN --features features.npz    # image features of the test set, e.g. for t-SNE

It writes text_features.safetensors and classifier.json; docs/PREDICT.md describes their content and use.
"""

import argparse
import hashlib
import io
import os
from argparse import ArgumentParser
from pathlib import Path

from fdbpl import class_names
from fdbpl.errors import UserError, cli_error_handler, one_line
from fdbpl.io.atomic import write_bytes, write_json

FORMAT = "FDBPL classifier 1"
FORMULA = "logit_scale * image_features @ text_features.T"
DIFFERENCE = "logit_scale * image_features @ (text_features - negative_text_features).T"


def main(words: list[str] | None = None) -> None:
    parser = ArgumentParser(
        prog="python -m fdbpl.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished training run")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="output folder (default: RUN/export)")
    class_names.add_arguments(parser)
    parser.add_argument("--features", type=Path, metavar="FILE.npz", help="write only the features of the test images")
    parser.add_argument("--root", default="", help="folder of the data sets, for --features (default: the run's)")
    arguments = parser.parse_args(words)
    with cli_error_handler():
        names = class_names.parse_classnames(arguments)

        from fdbpl.engine.trained_run import load_run

        if arguments.features:
            print(export_features(load_run(arguments.run), arguments.features, arguments.root))
            return
        print(export(load_run(arguments.run), arguments.to or Path(arguments.run, "export"), names))


def export(run, folder: Path, names: list[str] | None = None) -> str:
    """Write the classifier of a `TrainedRun` into `folder`; return a description of it and of its classes.

    text_features.safetensors holds
        text_features: unit vectors, float32 [C, D].
        logit_scale: float32 [], exponentiated.
        visual_prompts.<i>: [n, d], if the image tower has prompts.
        projector.<...>: PromptKD's, applied to the output of the image tower.
        negative_text_features: unit vectors, float32 [C, D], with TRAINER.FDBPL.TEST_LOGITS difference.

    Args:
        names: class names that replace those of the run.

    Raises:
        UserError: the class features depend on the image, or the run cannot serve these class names.
    """
    import torch

    if run.trainer_class.student_class.text_follows_image:
        raise UserError(
            f"{run.cfg.TRAINER.NAME} in {run.folder} computes class features from each image, so there are no fixed "
            f"features to export; use python -m fdbpl.predict {run.folder}"
        )
    names = names or run.classnames
    with torch.no_grad():
        student = run.student(names)
        tensors = {"text_features": student.classifier_features(), **student.image_tensors()}
        negative = run.negative_prompt_learner(names)
        difference = negative is not None and run.cfg.TRAINER.FDBPL.TEST_LOGITS == "difference"
        if difference:
            tensors["negative_text_features"] = student.encode(negative())[0]
    tensors["logit_scale"] = torch.tensor(student.backbone.logit_scale)
    parts = {"visual prompts": "visual_prompts.", "projector": "projector.", "negative text features": "negative_"}
    needs = [what for what, prefix in parts.items() if any(name.startswith(prefix) for name in tensors)]
    from fdbpl.io.tensor_files import tensor_bytes  # imports torch

    content = tensor_bytes(tensors)
    write_bytes(folder / "text_features.safetensors", content)
    write_json(
        folder / "classifier.json",
        {
            "format": FORMAT,
            "sha256": hashlib.sha256(content).hexdigest(),  # reveals an export that was interrupted here
            "needs": needs,  # beyond CLIP and the text features
            "logits": DIFFERENCE if difference else FORMULA,
            "trainer": run.cfg.TRAINER.NAME,
            "template": run.template,
            "backbone": {"name": student.backbone.name, "sha256": student.backbone.sha256},
            "preprocessing": preprocessing(run.cfg, run.decoding),
            "dtype": {"text_features": "float32", "towers": student.settings.PREC},
            "run": {"fingerprint": run.fingerprint, "dataset": run.dataset, "seed": run.cfg.SEED},
            "trained_on": {"classes": run.subset, "classnames": run.classnames},  # all, or half of them
            "classnames": names,
        },
    )
    extra = f"; it needs {', '.join(needs)} too" if needs else ""
    known = class_names.describe(names, run.subset if names == run.classnames else "all", run.dataset)
    return f"Classifier of {run.cfg.TRAINER.NAME} on {student.backbone.name} in {folder}{extra}\n{one_line(known)}"


def export_features(run, file: Path, root: str = "") -> str:
    """Write the features of the test images of a `TrainedRun`; return a description.

    The file holds features (unit vectors, float32 [N, D]), labels (int64 [N]), paths (N strings, relative to the data
    root) and classnames (C strings). No array needs pickle.

    Args:
        root: folder of the data sets; "" = the run's.

    Raises:
        UserError: the file name does not end in .npz, or the data set is missing.
    """
    import numpy as np

    if file.suffix != ".npz":
        raise UserError(f"{file} does not end in .npz. Rename it.")
    features, images, dataset = run.test_features(run.data_config(root=root))
    folder = getattr(dataset, "root", run.cfg.DATASET.ROOT)
    content = io.BytesIO()
    np.savez(
        content,
        features=features.numpy(),
        labels=np.array([image.label for image in images], dtype=np.int64),
        paths=np.array([os.path.relpath(image.impath, folder) for image in images]),
        classnames=np.array(run.classnames),
    )
    write_bytes(file, content.getvalue())
    return f"Features of {len(images)} test images of {run.dataset}: {file}"


def preprocessing(cfg, decoding) -> dict:
    """Describe decoding and Dassl's test transform: RGB, resize, centre crop, values in [0, 1], minus mean,
    divided by std."""
    normalized = "normalize" in cfg.INPUT.TRANSFORMS
    return {
        "size": list(cfg.INPUT.SIZE),
        "resize": max(cfg.INPUT.SIZE),  # the smaller edge, in pixels
        "interpolation": cfg.INPUT.INTERPOLATION,
        "exif_orientation": decoding.exif_orientation,  # rotate and mirror images first
        "white_background": decoding.white_background,  # compose transparent pixels over white
        "crop": "center",
        "mean": list(cfg.INPUT.PIXEL_MEAN) if normalized else [0.0, 0.0, 0.0],
        "std": list(cfg.INPUT.PIXEL_STD) if normalized else [1.0, 1.0, 1.0],
    }


if __name__ == "__main__":
    main()
