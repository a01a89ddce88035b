"""Names of data sets, trainers and students, and their files in configs/."""

import os
import re
from functools import cache
from pathlib import Path

from fdbpl.config import read_yaml
from fdbpl.errors import UserError, quoted

DATASETS, TRAINERS = Path("configs/datasets"), Path("configs/trainers")  # the commands run in the project's folder
PROTOCOL_FILES = Path("configs/protocols.yaml")

RULE = """\
configuration file:
  configs/trainers/METHOD/NAME.yaml. METHOD is TRAINER where that folder exists. Otherwise TRAINER is a variant of
  METHOD with another supervision: FDBPL_METHOD, METHOD_KDPL or METHOD_<supervision>.
  NAME is CFG where it is set. Otherwise it is the entry of METHOD and the protocol in configs/protocols.yaml, with
  {student} replaced by STUDENT; for the demo models it is the entry `demo` (of methods that need a ViT). Without an
  entry it is STUDENT itself. STUDENT is vit_b32, vit_b16, rn50, demo or demo_vit; by default the demo model for the
  demo's data sets and vit_b32 for all others, whose weights must already be there.
"""


def is_demo(name: str) -> bool:
    """Tell whether the name of a data set or of a student belongs to the demo."""
    return name == "demo" or name.startswith("demo_")


def is_file_name(name: str) -> bool:
    """Tell whether a name contains no path, flag or special character."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name, re.ASCII) is not None


def check_dataset(name: str, variable: str = "DATASET") -> None:
    """Refuse a name without a file in configs/datasets.

    Raises:
        UserError: lists the data sets.
    """
    if not is_file_name(name) or not (DATASETS / f"{name}.yaml").is_file():
        raise UserError(f"{variable} {quoted(name)} is not a data set. Choose from {_stems(DATASETS)}")


def config_folder(trainer: str) -> Path:
    """The folder of a trainer's configuration files: its own, otherwise that of the method it is a variant of.

    Raises:
        UserError: there is none; lists the trainers.
    """
    method = trainer.removeprefix("FDBPL_")
    for name in (trainer, method, method.rpartition("_")[0]):
        if is_file_name(trainer) and is_file_name(name) and (TRAINERS / name).is_dir():
            return TRAINERS / name
    names = ", ".join(sorted(folder.name for folder in TRAINERS.iterdir() if folder.is_dir()))
    raise UserError(
        f"TRAINER {quoted(trainer)} is not a trainer: {TRAINERS} has no folder of its settings. Choose from {names}, "
        "or a variant FDBPL_METHOD, METHOD_KDPL or METHOD_<supervision>"
    )


def default_student(dataset: str, demo_student: str = "demo") -> str:
    return demo_student if is_demo(dataset) else "vit_b32"


def config_file(trainer: str, protocol: str, student: str) -> Path:
    """The configuration file of a trainer by the rule above; CFG overrides it. The file may be missing.

    Raises:
        UserError: no such trainer, or a CFG or student that is not a name.
    """
    folder, name = config_folder(trainer), os.environ.get("CFG", "")
    for variable, value in (("CFG", name), ("STUDENT", student)):
        if value and not is_file_name(value):
            raise UserError(f"{variable} {quoted(value)} is not the name of a configuration, e.g. STUDENT=vit_b32")
    if not name:
        files, method = protocol_files(), folder.name
        keys = [student] if is_demo(student) else [protocol, "default"]
        names = [files[f"{method}.{key}"] for key in keys if f"{method}.{key}" in files]
        name = [*names, "{student}"][0].replace("{student}", student)
    return folder / f"{name}.yaml"


def existing_config_file(trainer: str, protocol: str, student: str) -> Path:
    """`config_file`, which must be there.

    Raises:
        UserError: it is not; lists the trainer's files.
    """
    file = config_file(trainer, protocol, student)
    if not file.is_file():
        wanted = f"CFG {quoted(file.stem)}" if os.environ.get("CFG") else f"STUDENT {quoted(student)}"
        raise UserError(
            f"{file.parent} has no file {file.name} for {wanted}. Choose another STUDENT, or set CFG to one of "
            f"{_stems(file.parent)}"
        )
    return file


def check_weights(dataset: str, overrides: list[str]) -> None:
    """Refuse the default student where its weights are missing: neither a download nor a demo model comes unasked.

    Raises:
        UserError: says where the weights are expected and what to set.
    """
    chosen = os.environ.get("STUDENT") or os.environ.get("CFG") or "MODEL.BACKBONE.NAME" in overrides
    cache_folder = os.environ.get("FDBPL_CLIP_CACHE") or os.path.expanduser("~/.cache/clip")
    weights = Path(cache_folder, "ViT-B-32.pt")
    if not chosen and not is_demo(dataset) and not weights.is_file():
        raise UserError(
            f"The weights of CLIP ViT-B/32 are missing ({weights}). STUDENT=vit_b32 downloads them (340 MB), or copy "
            "the file there; STUDENT=demo uses the embedded demo models, which recognise only 28 synthetic classes"
        )


@cache
def protocol_files() -> dict[str, str]:
    """configs/protocols.yaml as {"METHOD.PROTOCOL": name of the file}."""
    return read_yaml(PROTOCOL_FILES)


def _stems(folder: Path) -> str:
    return ", ".join(sorted(file.stem for file in folder.glob("*.yaml") if is_file_name(file.stem)))
